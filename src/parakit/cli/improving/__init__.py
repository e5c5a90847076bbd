"""Verbs that start from a finished model and make another of it."""

__all__: list[str] = []
