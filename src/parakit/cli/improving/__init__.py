"""Verbs that make a trained model better, or show where it is not good."""

__all__: list[str] = []
