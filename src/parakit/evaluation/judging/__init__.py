"""Judging: a model grades answers or chooses the better of two; ratings of the models that answered."""
