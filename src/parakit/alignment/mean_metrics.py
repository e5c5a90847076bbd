"""Mean metrics of a step over its micro-batches: over pairs, over completions, over tokens."""

from __future__ import annotations

from torch import Tensor

from parakit.common.processes import FigureSum


class MeanMetrics:
    """Sums that stay on the device until `pop`: reading each one would wait for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Include all `values` in the mean `name`."""
        total, n = self._sums.get(name, (values.new_zeros(()), 0))
        self._sums[name] = (total + values.detach().sum(), n + values.numel())

    def pop(self, sum_figures: FigureSum = dict) -> dict[str, float]:
        """The means since the last call by name, over the processes of `sum_figures`; a mean of nothing is absent."""
        own = {name: float(total) for name, (total, _) in self._sums.items()}
        totals, counts = sum_figures(own), sum_figures({name: n for name, (_, n) in self._sums.items()})
        self._sums.clear()
        return {name: total / counts[name] for name, total in totals.items() if counts[name]}
