"""Benchmarks of what Parakit's own measures say, and of how they grade."""

__all__: list[str] = []
