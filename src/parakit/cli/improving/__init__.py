"""Verbs that start from a finished model: make another of it, or try it hard."""

__all__: list[str] = []
