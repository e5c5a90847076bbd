"""What is measured of a run as it trains, and what follows from it: the best weights, an early end, which checkpoints stay."""
