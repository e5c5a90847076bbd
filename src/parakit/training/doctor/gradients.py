"""Checks on gradients (pitfalls 1, 11 to 13, 15, 21, 22), for batches of any kind: they must not depend on how a
batch was cut, and reach what should train.

Each function takes what it looks at and returns the fault in words, or None. They run inside
`probes.tried_out`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parakit.model.layers.experts import MixtureOfExperts
from parakit.training import loop
from parakit.training.doctor.probes import counted_as, drop_gradients, row_slice, unevenly_counted
from parakit.training.doctor.views import countable, micro_batch, n_rows
from parakit.training.micro_batches import Objective
from parakit.training.precision import Precision

Gradient = dict[str, Tensor]
SKETCHED = 4096  # elements of each gradient that are kept for a comparison


def gradient(model: nn.Module, batches: Sequence[Any], objective: Objective, n_counted: int) -> Gradient:
    """A sketch of the gradient, in float64, that the training loop makes of these batches."""
    drop_gradients(model)
    parts = [micro_batch(model, batch) for batch in batches]
    precision = Precision("float32", next(model.parameters()).device)
    loop.accumulate_gradients(model, parts, objective, precision, n_counted)
    sketch = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            sketch[name] = parameter.grad.flatten()[:: max(1, parameter.numel() // SKETCHED)].double().cpu()
    drop_gradients(model)
    return sketch


def _distance(one: Gradient, other: Gradient) -> float:
    """How far two gradients lie apart, in parts of the second's norm; infinite where they do not even have
    the same parts, or are no numbers.
    """
    if one.keys() != other.keys():
        return float("inf")
    norm = sum(float(value.square().sum()) for value in other.values()) ** 0.5
    apart = sum(float((one[name] - other[name]).square().sum()) for name in other) ** 0.5
    return apart / (norm + 1e-12) if np.isfinite(apart) else float("inf")


def _apart(model: nn.Module, one: Gradient, other: Gradient) -> str | None:
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    distance = _distance(one, other)
    return f"{distance:.2g} of its norm" if distance > (5e-2 if half else 1e-3) else None


def _cut(batch: Any, sizes: Sequence[int]) -> list[Any]:
    edges = np.cumsum([0, *sizes]).tolist()
    return [row_slice(batch, begin, end) for begin, end in pairwise(edges)]


def accumulation_weights(model: nn.Module, batch: Any, objective: Objective, whole: Gradient) -> str | None:
    """A gradient that depends on how the batch was cut into micro-batches of one size."""
    uneven = unevenly_counted(batch)
    n, total = n_rows(uneven), uneven.n_counted
    for n_parts in {2, n}:
        if n % n_parts == 0:
            parts = _cut(uneven, [n // n_parts] * n_parts)
            if found := _apart(model, gradient(model, parts, objective, total), whole):
                return f"cut into {n_parts} micro-batches, the gradient differs by {found}"
    return None


def last_window(model: nn.Module, batch: Any, objective: Objective, whole: Gradient) -> str | None:
    """A gradient that changes when the last micro-batch is smaller than the others."""
    uneven = unevenly_counted(batch)
    n = n_rows(uneven)
    if n < 2:
        return None
    found = _apart(model, gradient(model, _cut(uneven, [n - 1, 1]), objective, uneven.n_counted), whole)
    return f"with a smaller last micro-batch, the gradient differs by {found}" if found else None


def masked_micro_batch(model: nn.Module, batch: Any, objective: Objective) -> str | None:
    """A micro-batch without a counted token that gives NaN, or changes the gradient."""
    uneven = unevenly_counted(batch, empty_row=True)
    n = n_rows(uneven)
    if n < 2 or countable(batch) is None:
        return None
    with torch.no_grad():
        alone = float(objective(model, micro_batch(model, row_slice(uneven, 1, 2))))
    if alone != 0:
        return f"the loss of a micro-batch without counted tokens is {alone}"
    whole = gradient(model, [uneven], objective, uneven.n_counted)
    found = _apart(model, gradient(model, _cut(uneven, [1] * n), objective, uneven.n_counted), whole)
    return f"with a micro-batch without counted tokens, the gradient differs by {found}" if found else None


def rank_weights(model: nn.Module, batch: Any, objective: Objective, whole: Gradient) -> str | None:
    """Ranks whose gradients do not add up to that of the whole batch, when they hold different numbers of
    counted tokens.
    """
    uneven = unevenly_counted(batch)
    n = n_rows(uneven)
    if n < 2:
        return None
    ranks = [
        gradient(model, [part], objective, uneven.n_counted) for part in _cut(uneven, [n // 2, n - n // 2])
    ]
    added: Gradient = {}
    for rank in ranks:
        added |= {name: added[name] + part if name in added else part for name, part in rank.items()}
    found = _apart(model, added, whole)
    return f"the gradients of two ranks add up to another gradient: off by {found}" if found else None


def uncounted_targets_matter(model: Any, batch: Any, objective: Objective) -> str | None:
    """An objective that looks at targets which do not count."""
    if countable(batch) is None:
        return None
    half = unevenly_counted(batch)
    name = "target_ids" if hasattr(half, "target_ids") else "labels"
    targets = getattr(half, name)
    n = model.config.vocab_size if name == "target_ids" else len(model.classes.labels)
    changed = replace(half, **{name: np.where(half.loss_mask, targets, (targets + 1) % n)})
    with torch.no_grad():
        losses = [float(objective(model, micro_batch(model, one))) for one in (half, changed)]
    return (
        None
        if losses[0] == losses[1] or np.isnan(losses).any()
        else "the loss changes with targets that do not count"
    )


def half_precision_loss(model: nn.Module, batch: Any, objective: Objective, precision: str) -> str | None:
    """A loss that is taken in half precision."""
    used = Precision(precision, next(model.parameters()).device)
    with torch.no_grad(), used.autocast():
        dtype = objective(model, micro_batch(model, row_slice(batch, 0, 1))).dtype
    return None if dtype in (torch.float32, torch.float64) else f"the loss is computed in {dtype}"


def touched(model: nn.Module, batch: Any, objective: Objective) -> set[str]:
    """Names of the parameters that a gradient reaches. Routers may have none but that of their balance, which is
    learned in training mode only.
    """
    every = counted_as(batch, countable(batch))
    drop_gradients(model)
    precision = Precision("float32", next(model.parameters()).device)
    model.train(any(isinstance(module, MixtureOfExperts) for module in model.modules()))
    loop.accumulate_gradients(model, [micro_batch(model, every)], objective, precision, every.n_counted)
    model.eval()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    drop_gradients(model)
    return reached


def no_gradient(model: nn.Module, reached: set[str], frozen: Callable[[str], bool]) -> str | None:
    """Parameters that should train, and that no gradient reaches."""
    idle = [name for name, _ in model.named_parameters() if not frozen(name) and name not in reached]
    return f"no gradient reaches {few(idle)}" if idle else None


def frozen_gradient(model: nn.Module, reached: set[str], frozen: Callable[[str], bool]) -> str | None:
    """Parameters that should stay as they are, and that would be trained."""
    moving = [
        name for name, p in model.named_parameters() if frozen(name) and (p.requires_grad or name in reached)
    ]
    return f"meant to stay as they are, and would be trained: {few(moving)}" if moving else None


def few(names: list[str]) -> str:
    """Up to three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
