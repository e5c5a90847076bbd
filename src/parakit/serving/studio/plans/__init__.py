"""Planning in the studio: what a run takes, and the best that a time, an amount of money or a memory allows."""
