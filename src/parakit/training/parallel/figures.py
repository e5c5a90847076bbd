"""Figures that an objective adds up by micro-batch, over all processes."""

from __future__ import annotations

from collections.abc import Mapping

from parakit.common.processes import is_distributed

_is_training = False


def sum_figures(while_training: bool) -> None:
    """Set whether the processes train together now: before and after a run each may measure by itself."""
    global _is_training
    _is_training = while_training


def summed(figures: Mapping[str, float]) -> dict[str, float]:
    """The sum of each figure over the processes of a run in training; in one process the figures themselves."""
    if not _is_training or not is_distributed():
        return dict(figures)
    import torch.distributed as dist

    found: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, dict(figures))
    names = sorted({name for one in found for name in one})
    return {name: sum(one.get(name, 0.0) for one in found) for name in names}
