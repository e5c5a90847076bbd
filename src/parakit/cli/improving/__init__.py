"""Verbs that make a better model of a model, one file each."""

__all__: list[str] = []
