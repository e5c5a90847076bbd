"""Cleaning of a corpus: named steps in an order, each with a report of what it took away and ten samples of it."""

__all__: list[str] = []
