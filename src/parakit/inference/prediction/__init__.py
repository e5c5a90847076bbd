"""Predictions without generation: labels, tags, scores, vectors, masked words."""

__all__: list[str] = []
