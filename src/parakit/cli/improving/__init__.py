"""Verbs that make a tuned model better at what people want of it."""

__all__: list[str] = []
