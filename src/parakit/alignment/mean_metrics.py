"""Figures of a step, gathered from its micro-batches: means over pairs, over completions, over tokens."""

from __future__ import annotations

from torch import Tensor


class MeanMetrics:
    """Sums that stay on the device until they are asked for: to look at each would make every step wait."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Let all `values` into the mean of the figure `name`."""
        total, n = self._sums.get(name, (values.new_zeros(()), 0))
        self._sums[name] = (total + values.detach().sum(), n + values.numel())

    def take(self) -> dict[str, float]:
        """The means since the last time, by name; what nothing was added to is absent."""
        means = {name: float(total) / n for name, (total, n) in self._sums.items() if n}
        self._sums.clear()
        return means
