"""Activation-aware scaling (Lin et al. 2023, "AWQ"): inputs of large values get finer steps.

A column of W is multiplied by s before rounding and its input divided by s: with s > 1 the rounding error of that input falls.
s = m^alpha, where m is the root mean square of the input on calibration text, and alpha the exponent of least error of the
layer's outputs. The division is folded into what computes the input: a norm's weight, the rows of `up` before `down`, the
rows of `value` before `output`. So the model computes the same function, with other weights.

Not folded, and rounded without scales: layers behind a residual sum (post-norm), behind a norm without weight, behind an
activation without a gate, and layers that another kind of layer shares its input with (experts, recurrent layers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parakit.compression.quantization.config import AWQConfig
from parakit.model.layers.attention import Attention, GatedAttention
from parakit.model.layers.blocks import Block, ParallelBlock
from parakit.model.layers.feed_forward import FeedForward
from parakit.model.layers.norms import RMSNorm, ZeroCenteredRMSNorm
from parakit.model.quantized import QuantScheme, dequantize, quantize_tensor


@dataclass(frozen=True)
class Fold:
    """The division goes into `source`, a norm or a linear layer, and `layers` read what it computes, and nothing else does.
    `repeats`: how many neighbouring heads of `head_dim` inputs one head of the source feeds.
    """

    source: str
    layers: tuple[str, ...]
    repeats: int = 1
    head_dim: int = 1


def folds_of(block: nn.Module) -> list[Fold]:
    """Where scales can be folded in a block."""
    if not isinstance(block, Block):
        return []
    attention, feed_forward = block.attention, block.feed_forward
    readers = {
        "attention_norm": _attention_readers(attention),
        "feed_forward_norm": _feed_forward_readers(feed_forward),
    }
    if isinstance(block, ParallelBlock) and block.shared_norm:
        both = readers["attention_norm"] + readers["feed_forward_norm"] if all(readers.values()) else ()
        readers = {"attention_norm": both}
    folds = [
        Fold(norm, layers)
        for norm, layers in readers.items()
        if layers and not block.post_norm and getattr(block.get_submodule(norm), "weight", None) is not None
    ]
    if isinstance(attention, Attention):
        folds.append(Fold("attention.value", ("attention.output",), attention.n_groups, attention.head_dim))
    if type(feed_forward) is FeedForward and feed_forward.gate is not None:
        folds.append(Fold("feed_forward.up", ("feed_forward.down",)))
    return folds


def search_scales(
    weights: Mapping[str, Tensor],
    schemes: Mapping[str, QuantScheme],
    hessian: Tensor,
    fold: Fold,
    config: AWQConfig,
) -> Tensor:
    """The scales (I,) of least error for layers that read the same input, among powers of its root mean square."""
    size = hessian.diagonal().clamp(min=0).sqrt()
    size = _shared(size, fold).clamp(min=1e-4 * float(size.max()) or 1.0)
    best, chosen = float("inf"), torch.ones_like(size)
    for step in range(config.n_scale_steps):
        scales = size ** (step / config.n_scale_steps)
        scales = scales / (scales.max() * scales.min()).sqrt()
        error = sum(_output_error(weights[name], schemes[name], scales, hessian) for name in weights)
        if error < best:
            best, chosen = error, scales
    return chosen


@torch.no_grad()
def fold_scales(block: nn.Module, fold: Fold, scales: Tensor) -> None:
    """Multiply the columns of the layers by `scales` (I,), and divide what the source computes: the function stays."""
    for name in fold.layers:
        weight = block.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight *= scales
    source = block.get_submodule(fold.source)
    if fold.head_dim > 1:  # one value head feeds several heads
        scales = scales.view(-1, fold.repeats, fold.head_dim)[:, 0].flatten()
    if isinstance(source, ZeroCenteredRMSNorm):
        source.weight.copy_((1 + source.weight) / scales - 1)
        return
    assert isinstance(source, RMSNorm | nn.LayerNorm | nn.Linear)
    source.weight /= scales[:, None] if isinstance(source, nn.Linear) else scales
    bias = getattr(source, "bias", None)
    if bias is not None:
        bias /= scales


def _attention_readers(attention: nn.Module) -> tuple[str, ...]:
    """The layers that read the norm before the attention; none where something else does, too."""
    if not isinstance(attention, Attention):
        return ()
    names = ("query", "key", "value", *(("gate",) if isinstance(attention, GatedAttention) else ()))
    return tuple(f"attention.{name}" for name in names)


def _feed_forward_readers(feed_forward: nn.Module) -> tuple[str, ...]:
    if type(feed_forward) is not FeedForward:
        return ()
    names = ("up",) if feed_forward.gate is None else ("gate", "up")
    return tuple(f"feed_forward.{name}" for name in names)


def _shared(size: Tensor, fold: Fold) -> Tensor:
    """Sizes (I,), the same for all heads that one head of the source feeds."""
    if fold.head_dim == 1:
        return size
    heads = size.view(-1, fold.repeats, fold.head_dim)
    return heads.square().mean(1, keepdim=True).sqrt().expand_as(heads).flatten()


def _output_error(weight: Tensor, scheme: QuantScheme, scales: Tensor, hessian: Tensor) -> float:
    """mean |(W - Q) x|^2 over calibration tokens, where Q is W rounded with scaled columns."""
    rounded = dequantize(quantize_tensor(weight * scales, scheme)) / scales
    error = weight.float() - rounded
    return float(((error @ hessian) * error).sum())
