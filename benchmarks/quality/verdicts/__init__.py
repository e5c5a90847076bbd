"""Whether what says that one model is better can be relied on: comparisons and the gate, and judges."""

__all__: list[str] = []
