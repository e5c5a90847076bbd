"""Experiments: what a change of the architecture, the data or the reward brings."""
