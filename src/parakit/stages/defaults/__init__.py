"""Defaults that follow from the model that a run starts from, its data and the machine."""
