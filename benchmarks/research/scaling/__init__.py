"""What small runs say about larger ones, and whether the size that a time chooses is a good one."""
