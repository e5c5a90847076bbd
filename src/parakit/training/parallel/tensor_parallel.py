"""Matrices split over processes (Shoeybi et al. 2019, "Megatron-LM"), as DTensors.

Attention is split by heads, the feed-forward layer by its inner features: the first matrices of each by columns, the last by
rows, so that one sum over processes ends each. What a split layer does between them (rotation, scores, activation) is
computed for its part alone, and everything outside of split layers is computed in each process alike. A layer that cannot be
split (other attention, adapters, a number of heads that does not divide) stays whole, which is correct and saves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)

from parakit.model.layers.attention import Attention, CrossAttention, GatedAttention
from parakit.model.layers.blocks import Block
from parakit.model.layers.efficient_attention import LocalAttention
from parakit.model.layers.feed_forward import FeedForward
from parakit.model.layers.norms import HeadwiseLayerNorm, WidthRMSNorm
from parakit.model.layers.positions import RelativePositions
from parakit.training.parallel.engine import local

FIRST, LAST = ("query", "key", "value", "gate", "up"), ("output", "down")
ATTENTIONS = (Attention, GatedAttention, LocalAttention, CrossAttention)


def split_matrices(model: nn.Module, blocks: Sequence[nn.Module], mesh: DeviceMesh) -> list[nn.Module]:
    """Split the layers of `blocks` over `mesh` in place. Returns the modules the gradients of whose weights are parts of the
    whole in each process, and have to be summed: `sum_parts`.
    """
    split = {id(layer): layer for block in blocks for layer in _layers(block) if _splits(layer, mesh.size())}
    for layer in split.values():
        plan: dict[str, ParallelStyle] = {
            name: ColwiseParallel() if name in FIRST else RowwiseParallel()
            for name in (*FIRST, *LAST)
            if isinstance(getattr(layer, name, None), nn.Linear)
        }
        parallelize_module(layer, mesh, plan)
        parallelize_module(layer, mesh, _one_input(layer))
    inside = {id(module) for block in blocks for module in block.modules()}
    return [found for module in model.modules() for found in _in_parts(module, split, inside, mesh)]


def sum_parts(modules: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Sum the gradients of the weights of these modules over the processes of `mesh`."""
    weights = (weight for module in modules for weight in module.parameters())
    gradients = [local(weight.grad) for weight in weights if weight.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, group=mesh.get_group())
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def _layers(block: nn.Module) -> Iterator[nn.Module]:
    assert isinstance(block, Block)
    yield block.attention
    if block.cross_attention is not None:
        yield block.cross_attention
    yield block.feed_forward


def _splits(layer: nn.Module, n: int) -> bool:
    """Whether a layer can be split into `n` parts that are computed alone."""
    plain = all(
        type(module) is nn.Linear
        for name in (*FIRST, *LAST)
        if (module := getattr(layer, name, None)) is not None
    )
    if type(layer) is FeedForward:
        return plain and layer.up.out_features % n == 0
    if type(layer) not in ATTENTIONS or not plain:
        return False
    assert isinstance(layer, Attention)
    normed_together = isinstance(layer.query_norm, WidthRMSNorm | HeadwiseLayerNorm)
    return (layer.key.out_features // layer.head_dim) % n == 0 and not normed_together


def _one_input(layer: nn.Module) -> ParallelStyle:
    """Take the vectors that enter a layer as one tensor of all processes, so that its gradient is summed once."""
    n_tensors = 2 if isinstance(layer, CrossAttention) else 1
    n_others = 0 if isinstance(layer, FeedForward) else 4 - n_tensors
    layouts: Any = (*(Replicate(),) * n_tensors, *(None,) * n_others)
    return PrepareModuleInput(input_layouts=layouts, desired_input_layouts=layouts)


def _in_parts(
    module: nn.Module, split: dict[int, nn.Module], inside: set[int], mesh: DeviceMesh
) -> Iterator[nn.Module]:
    """The modules in `module` whose weights every process uses for its own heads alone. What is outside of the blocks is
    averaged over the processes later; see `shard_model`.
    """
    if id(module) in split and isinstance(module, Attention):
        yield from (module.query_norm, module.key_norm)
    elif isinstance(module, RelativePositions) and any(isinstance(one, Attention) for one in split.values()):
        is_inside = id(module) in inside
        _take_own_heads(module, mesh, 1 if is_inside else mesh.size())
        if is_inside:
            yield module


def _take_own_heads(positions: RelativePositions, mesh: DeviceMesh, factor: int) -> None:
    """Give each process the biases of its heads, and their gradient times `factor`."""
    n_heads, rank, n = positions.bias.embedding_dim, mesh.get_local_rank(), mesh.size()
    own = slice(rank * n_heads // n, (rank + 1) * n_heads // n)
    whole = positions.of_buckets

    def of_buckets(buckets: Tensor) -> Tensor:
        bias: Tensor = _TimesGradient.apply(whole(buckets), factor)
        return bias[..., own, :, :]

    positions.of_buckets = of_buckets  # type: ignore[method-assign]


class _TimesGradient(torch.autograd.Function):
    """The gradient times a number: of parts that are averaged later, for their sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        """x itself."""
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """See above."""
        return gradients[0] * ctx.factor, None
