"""Weights of which a process holds a part: without memory at first, filled, gathered and written one tensor at a time."""
