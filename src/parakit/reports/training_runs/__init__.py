"""Training runs of a folder: where they are, their curves, how they compare, as tables, in the terminal and as a page."""
