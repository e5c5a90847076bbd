"""Experts over processes (Lepikhin et al. 2020, "GShard"): each holds some of a layer's experts, and tokens travel to them.

Every process routes its own tokens. The rows of each expert go to the process that has it, in one exchange, and the results
come back in another; the gradients travel the same way. Router and shared experts are held as the rest of a block is.

Shapes: M rows (a token and one of its experts each), E experts, P processes that share them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor

from parakit.common.errors import UserError
from parakit.model.layers.experts import MixtureOfExperts
from parakit.training.parallel.engine import local


def expert_layers(blocks: list[nn.Module]) -> list[MixtureOfExperts]:
    """The layers with experts."""
    return [module for block in blocks for module in block.modules() if isinstance(module, MixtureOfExperts)]


def spread_experts(layer: MixtureOfExperts, mesh: DeviceMesh) -> None:
    """Give each process of `mesh` its experts of `layer`, in place."""
    n = mesh.size()
    if len(layer.up) % n:
        raise UserError(
            f"parallel: expert = {n} does not divide the {len(layer.up)} experts of a layer",
            "set it to a divisor",
        )
    for name, weight in list(layer.named_parameters(recurse=False)):
        layer.register_parameter(name, nn.Parameter(distribute_tensor(weight.detach(), mesh, [Shard(0)])))
    group, compute = mesh.get_group(), type(layer)._experts
    own = _OwnExperts(layer)

    def experts(x: Tensor, ends: Tensor) -> Tensor:
        sent = ends.diff(prepend=ends.new_zeros(1)).view(n, -1)  # (P, E / P): rows by process and expert
        taken = torch.empty_like(sent)
        dist.all_to_all_single(taken, sent.contiguous(), group=group)
        n_sent, n_taken = sent.sum(1).tolist(), taken.sum(1).tolist()
        rows = all_to_all_single_autograd(x, n_taken, n_sent, group)
        expert = torch.arange(sent.shape[1], device=x.device).repeat(n).repeat_interleave(taken.flatten())
        order = expert.argsort(stable=True)
        found = compute(own, rows.index_select(0, order), taken.sum(0).cumsum(0))  # type: ignore[arg-type]
        back = torch.empty_like(found).index_copy(0, order, found)
        result: Tensor = all_to_all_single_autograd(back, n_sent, n_taken, group)
        return result

    layer._experts = experts  # type: ignore[method-assign]


class _OwnExperts:
    """A layer as its experts in this process see it."""

    def __init__(self, layer: MixtureOfExperts) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._layer, name)
        return local(value) if isinstance(value, nn.Parameter | Tensor) else value
