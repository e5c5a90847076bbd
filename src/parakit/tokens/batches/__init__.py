"""Batches as a pure function of (seed, row number): packing, noising, replay, prefix trees. Numpy only."""
