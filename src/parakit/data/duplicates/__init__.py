"""Duplicates in a corpus: equal texts, near duplicates, repeated passages, and leaks of evaluation suites."""

__all__: list[str] = []
