"""Gradients as the training loop computes them, reduced to a sketch that is cheap to compare."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parakit.model.layers.experts import MixtureOfExperts
from parakit.tokens.batches.batch import AnyBatch
from parakit.training import loop
from parakit.training.doctor.batch_views import loss_positions, micro_batch
from parakit.training.doctor.probes import drop_gradients, with_loss_mask
from parakit.training.micro_batches import Objective
from parakit.training.precision import Precision

Gradient = dict[str, Tensor]
MAX_SKETCHED = 4096  # elements of each parameter's gradient that are compared


def gradient(model: nn.Module, batches: Sequence[AnyBatch], objective: Objective, n_counted: int) -> Gradient:
    """A sketch, in float64, of the gradient that the training loop computes for these micro-batches."""
    drop_gradients(model)
    parts = [micro_batch(model, batch) for batch in batches]
    precision = Precision("float32", next(model.parameters()).device)
    loop.accumulate_gradients(model, parts, objective, precision, n_counted)
    sketch = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            stride = max(1, parameter.numel() // MAX_SKETCHED)
            sketch[name] = parameter.grad.flatten()[::stride].double().cpu()
    drop_gradients(model)
    return sketch


def gradient_difference(model: nn.Module, one: Gradient, other: Gradient) -> str | None:
    """How far two gradients differ beyond rounding, as a share of the second's norm; None: they do not."""
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    distance = _distance(one, other)
    return f"{distance:.2g} of its norm" if distance > (5e-2 if half else 1e-3) else None


def _distance(one: Gradient, other: Gradient) -> float:
    """Infinite where the two have different parts, or are not finite."""
    if one.keys() != other.keys():
        return float("inf")
    norm = sum(float(value.square().sum()) for value in other.values()) ** 0.5
    distance = sum(float((one[name] - other[name]).square().sum()) for name in other) ** 0.5
    return distance / (norm + 1e-12) if distance < float("inf") else float("inf")


def trained_parameters(model: nn.Module, batch: AnyBatch, objective: Objective) -> set[str]:
    """Names of the parameters that a gradient reaches. Routers may have none but that of their load balancing, which is
    added in training mode only.
    """
    everything = with_loss_mask(batch, loss_positions(batch))
    drop_gradients(model)
    precision = Precision("float32", next(model.parameters()).device)
    model.train(any(isinstance(module, MixtureOfExperts) for module in model.modules()))
    loop.accumulate_gradients(
        model, [micro_batch(model, everything)], objective, precision, everything.n_counted
    )
    model.eval()
    names = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    drop_gradients(model)
    return names


def list_names(names: list[str]) -> str:
    """Up to three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
