"""Several linear layers of one input, whose gradient is added up in place, and their low-rank updates (LoRA).

PyTorch makes a gradient of the input for each layer and adds them pass by pass; here the second product adds its result to
the first's. Updates are two thin products for each layer: the first factors of all layers are one matrix here, and the second
product adds to the layer's result. The layers are called as they are where they are more than that: other adapters, dropout,
quantized weights, trained biases, hooks, weights that are spread over processes.

Shapes: N vectors, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from parakit.model.kernels.training import PLAIN, Normed, has_hooks, norm_again, norm_of


@dataclass(frozen=True)
class Projection:
    """What a layer computes: x @ weight.T + bias + scale * x @ lora_a.T @ lora_b.T. The bias does not train."""

    weight: Tensor  # (O, I)
    bias: Tensor | None = None  # (O,)
    lora_a: Tensor | None = None  # (R, I)
    lora_b: Tensor | None = None  # (O, R)
    scale: float = 1.0

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of them, in the order of the fields."""
        return self.weight, self.bias, self.lora_a, self.lora_b


def project(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """x (..., I) -> (..., O) of each layer."""
    shared = project_together(x, layers)
    return tuple(layer(x) for layer in layers) if shared is None else shared


def project_together(x: Tensor, layers: Sequence[nn.Module]) -> tuple[Tensor, ...] | None:
    """As `project`; None where the layers have to be called."""
    if not (torch.is_grad_enabled() or layers[0].training) or torch.compiler.is_compiling():
        return None
    if not (type(x) in PLAIN and x.device.type == "cpu" and x.numel()) or torch.is_autocast_enabled("cpu"):
        return None
    found = [projection_of(layer) for layer in layers]
    projections = [one for one in found if one is not None]
    if len(projections) < len(layers):
        return None
    has_updates = any(one.lora_a is not None for one in projections)
    if not torch.is_grad_enabled():
        # A pass that is computed again must have the bits of this one. Plain layers have them anyway.
        return _results(x, projections)[0] if has_updates else None
    if not x.requires_grad and not has_updates:
        return None  # nothing to add up
    flat = (tensor for one in projections for tensor in one.tensors)
    results: tuple[Tensor, ...] = _Shared.apply(x, norm_of(x), [one.scale for one in projections], *flat)
    return results


def projection_of(layer: nn.Module) -> Projection | None:
    """What `layer` computes, where it is no more than a `Projection`. A wrapper has a method `as_projection`."""
    if type(layer) is not nn.Linear:
        wrapped = getattr(layer, "as_projection", None)
        result: Projection | None = None if wrapped is None else wrapped()
        return result
    weight, bias = layer._parameters["weight"], layer._parameters["bias"]
    if type(weight) is not nn.Parameter or has_hooks(layer):
        return None
    if bias is not None and (bias.requires_grad or type(bias) is not nn.Parameter):
        return None
    return Projection(weight, bias)


def _results(x: Tensor, projections: Sequence[Projection]) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """(..., O) of each, and the inputs of the second factors next to each other, (N, sum of R)."""
    results = tuple(functional.linear(x, one.weight, one.bias) for one in projections)
    lora_a = _first_factors(projections)
    if lora_a is None:
        return results, None
    inner = x.reshape(-1, x.shape[-1]) @ lora_a.T
    for result, one, part in zip(results, projections, _split(inner, projections), strict=True):
        if one.lora_b is not None:
            rows = result.view(len(inner), -1)
            torch.addmm(rows, part, one.lora_b.T, alpha=one.scale, out=rows)
    return results, inner


def _first_factors(projections: Sequence[Projection]) -> Tensor | None:
    """(sum of R, I) of all updates; None without any."""
    factors = [one.lora_a for one in projections if one.lora_a is not None]
    return None if not factors else factors[0] if len(factors) == 1 else torch.cat(factors)


def _split(tensor: Tensor, projections: Sequence[Projection], along: int = 1) -> list[Tensor]:
    """The part of each along the ranks; an empty one without an update."""
    return list(tensor.split([0 if one.lora_a is None else len(one.lora_a) for one in projections], along))


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, normed: Normed | None, scales: Sequence[float], *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Where x is a norm, the backward pass computes it again from what the norm's own keeps anyway."""
        results, inner = _results(x, _from_flat(scales, tensors))
        ctx.scales, ctx.eps = scales, normed and normed.eps
        kept = (x, None) if normed is None else (normed.x, normed.weight)
        ctx.save_for_backward(*kept, inner, *tensors)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_weight, inner, *tensors = ctx.saved_tensors
        if norm_weight is not None:
            x = norm_again(Normed(x, norm_weight, ctx.eps))
        projections = _from_flat(ctx.scales, tensors)
        rows, slopes = x.reshape(-1, x.shape[-1]), [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        needs_x, _, _, *needs = ctx.needs_input_grad
        of_weights = [slope.T @ rows if needs[4 * i] else None for i, slope in enumerate(slopes)]
        no_updates: list[Tensor | None] = [None] * len(slopes)
        of_first, of_second, of_inner = no_updates, no_updates, None
        if inner is not None:
            of_first, of_second, of_inner = _of_updates(rows, slopes, inner, projections)
        found = zip(of_weights, no_updates, of_first, of_second, strict=True)
        of_x = _of_input(slopes, of_inner, projections).view(x.shape) if needs_x else None
        return of_x, None, None, *(one for gradients in found for one in gradients)


def _from_flat(scales: Sequence[float], tensors: Sequence[Any]) -> list[Projection]:
    each = [tensors[i : i + 4] for i in range(0, len(tensors), 4)]
    return [
        Projection(weight, bias, lora_a, lora_b, scale)
        for (weight, bias, lora_a, lora_b), scale in zip(each, scales, strict=True)
    ]


def _of_input(slopes: Sequence[Tensor], of_inner: Tensor | None, projections: Sequence[Projection]) -> Tensor:
    """The gradient (N, I) of the input."""
    total = slopes[0] @ projections[0].weight
    for slope, one in zip(slopes[1:], projections[1:], strict=True):
        torch.addmm(total, slope, one.weight, out=total)
    lora_a = _first_factors(projections)
    return total if of_inner is None or lora_a is None else torch.addmm(total, of_inner, lora_a, out=total)


def _of_updates(
    rows: Tensor, slopes: Sequence[Tensor], inner: Tensor, projections: Sequence[Projection]
) -> tuple[list[Tensor | None], list[Tensor | None], Tensor]:
    """The gradients of all lora_a and lora_b, and of `inner`."""
    of_inner, of_second = torch.empty_like(inner), list[Tensor | None]()
    parts = _split(inner, projections), _split(of_inner, projections)
    for one, slope, low, of_low in zip(projections, slopes, *parts, strict=True):
        if one.lora_b is None:
            of_second.append(None)
            continue
        torch.addmm(of_low, slope, one.lora_b, beta=0, alpha=one.scale, out=of_low)
        of_second.append(torch.addmm(one.lora_b, slope.T, low, beta=0, alpha=one.scale))
    of_first = _split(of_inner.T @ rows, projections, along=0)
    return [part if len(part) else None for part in of_first], of_second, of_inner
