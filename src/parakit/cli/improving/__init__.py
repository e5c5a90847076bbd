"""Verbs that make a tuned model better at what people want of it, or show where it is not good."""

__all__: list[str] = []
