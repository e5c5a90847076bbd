"""Figures that an objective adds up by micro-batch, over all processes."""

from __future__ import annotations

from collections.abc import Mapping

from parakit.common.processes import is_distributed


def summed(figures: Mapping[str, float]) -> dict[str, float]:
    """The sum of each figure over the processes of a run in training; in one process the figures themselves."""
    if not is_distributed():
        return dict(figures)
    import torch.distributed as dist

    if not dist.is_initialized():
        return dict(figures)
    found: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, dict(figures))
    names = sorted({name for one in found for name in one})
    return {name: sum(one.get(name, 0.0) for one in found) for name in names}
