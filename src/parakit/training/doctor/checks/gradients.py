"""Gradients do not depend on how a batch is cut, and reach what should train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from parakit.tokens.batches.batch import AnyBatch, RankingBatch
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import loss_positions, micro_batch, n_rows, substitute_ids
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.gradient_sketch import Gradient, gradient, gradient_difference, list_names
from parakit.training.doctor.probes import row_slice, uneven_mask
from parakit.training.doctor.row_formats import ALL, SUMMED

check = partial(registry.check, subject="Gradients", runs_model=True)
_SUM = "Return the sum of the loss over what counts in the batch, nothing else; the loop divides it once."


@check(
    "accumulation-weights",
    applies_to=(*SUMMED, "rankings", "distill"),
    passes=9,
    prevents="Accumulation averages the means of micro-batches instead of counting tokens: short answers weigh too much,"
    " and the result depends on micro_batch_size.",
    noticed_by="The gradient of a batch with uneven rows is compared with that of the batch cut into micro-batches.",
    remedy=_SUM,
    sources=("transformers PR #34191",),
)
def accumulation_weights(context: CheckContext) -> str | None:
    uneven = uneven_mask(context.probe)
    n = n_rows(uneven)
    for n_parts in {2, n}:
        if n % n_parts == 0:
            difference = _cut_difference(context, uneven, [n // n_parts] * n_parts)
            if difference:
                return f"cut into {n_parts} micro-batches, the gradient differs by {difference}"
    return None


def _cut(batch: AnyBatch, sizes: Sequence[int]) -> list[AnyBatch]:
    edges = np.cumsum([0, *sizes]).tolist()
    return [row_slice(batch, begin, end) for begin, end in pairwise(edges)]


def _cut_difference(context: CheckContext, uneven: AnyBatch, sizes: Sequence[int]) -> str | None:
    parts = gradient(context.model, _cut(uneven, sizes), context.objective, uneven.n_counted)
    return gradient_difference(context.model, parts, context.gradient)


@check(
    "last-window",
    applies_to=(*SUMMED, "rankings", "distill"),
    passes=4,
    prevents="The last, smaller micro-batch of a step is scaled like a full one.",
    noticed_by="The gradient of a batch is compared with that of the batch cut into a large and a small part.",
    remedy=_SUM,
    sources=("ms-swift PR #10084",),
)
def last_window(context: CheckContext) -> str | None:
    uneven = uneven_mask(context.probe)
    n = n_rows(uneven)
    difference = _cut_difference(context, uneven, [n - 1, 1]) if n > 1 else None
    return f"with a smaller last micro-batch, the gradient differs by {difference}" if difference else None


@check(
    "rank-weights",
    applies_to=(*SUMMED, "rankings", "distill"),
    passes=4,
    prevents="Data-parallel ranks with different numbers of counted tokens are averaged equally.",
    noticed_by="The gradients of two ranks with uneven rows are added and compared with that of the whole batch.",
    remedy="Divide by the number of counted tokens of the whole step, over all ranks.",
)
def rank_weights(context: CheckContext) -> str | None:
    uneven = uneven_mask(context.probe)
    n = n_rows(uneven)
    if n < 2:
        return None
    total: Gradient = {}
    for part in _cut(uneven, [n // 2, n - n // 2]):
        rank = gradient(context.model, [part], context.objective, uneven.n_counted)
        total |= {name: total[name] + value if name in total else value for name, value in rank.items()}
    difference = gradient_difference(context.model, total, context.gradient)
    return (
        f"the sum of two ranks' gradients differs from the whole batch's by {difference}"
        if difference
        else None
    )


@check(
    "uncounted-targets",
    applies_to=(*SUMMED, "dpo", "distill"),
    prevents="The objective ignores the loss mask, so the prompt, the padding or other uncounted targets are learned.",
    noticed_by="Targets that do not count are changed; the loss must stay the same.",
    remedy=_SUM,
)
def uncounted_targets(context: CheckContext) -> str | None:
    model, batch = context.model, context.probe
    if isinstance(batch, RankingBatch):
        changed = np.where(batch.loss_mask, batch.target_ids, substitute_ids(model, batch.target_ids))
        return _loss_changes(context, batch, replace(batch, target_ids=changed))
    if loss_positions(batch) is None:
        return None
    uneven = uneven_mask(batch)
    name = "target_ids" if hasattr(uneven, "target_ids") else "labels"
    targets = getattr(uneven, name)
    n = model.config.vocab_size if name == "target_ids" else len(model.classes.labels)
    changed = np.where(uneven.loss_mask, targets, (targets + 1) % n)
    return _loss_changes(context, uneven, replace(uneven, **{name: changed}))


@torch.no_grad()
def _loss_changes(context: CheckContext, batch: AnyBatch, changed: AnyBatch) -> str | None:
    losses = [
        float(context.objective(context.model, micro_batch(context.model, one))) for one in (batch, changed)
    ]
    if losses[0] == losses[1] or np.isnan(losses).any():
        return None
    return "the loss changes with targets that do not count"


@check(
    "masked-micro-batch",
    applies_to=(*SUMMED, "distill"),
    passes=6,
    prevents="A micro-batch in which nothing counts gives NaN, or changes the gradient of the others.",
    noticed_by="A row is masked completely; its loss must be 0, and the gradient that of the other rows.",
    remedy="Return 0 for a batch in which nothing counts: a sum, never a mean.",
    sources=("nanochat #590", "nanochat PR #834"),
)
def masked_micro_batch(context: CheckContext) -> str | None:
    model, objective = context.model, context.objective
    uneven = uneven_mask(context.probe, empty_row=True)
    n = n_rows(uneven)
    if n < 2 or loss_positions(context.probe) is None:
        return None
    with torch.no_grad():
        alone = float(objective(model, micro_batch(model, row_slice(uneven, 1, 2))))
    if alone != 0:
        return f"the loss of a micro-batch without counted tokens is {alone}"
    whole = gradient(model, [uneven], objective, uneven.n_counted)
    parts = gradient(model, _cut(uneven, [1] * n), objective, uneven.n_counted)
    difference = gradient_difference(model, parts, whole)
    return (
        f"with a micro-batch without counted tokens, the gradient differs by {difference}"
        if difference
        else None
    )


@check(
    "no-gradient",
    applies_to=(*ALL, "distill"),
    passes=3,
    prevents="A parameter that should train receives no gradient and keeps its first values.",
    noticed_by="The gradient of the first rows must reach every parameter that is not meant to be frozen.",
    remedy="Set requires_grad, and leave no part of the model unused.",
)
def no_gradient(context: CheckContext) -> str | None:
    names = [name for name, _ in context.model.named_parameters()]
    idle = [name for name in names if not context.frozen(name) and name not in context.trained]
    return f"no gradient reaches {list_names(idle)}" if idle else None


@check(
    "frozen-gradient",
    applies_to=ALL,
    prevents="A parameter that should stay frozen, such as an adapter's base weight, is trained.",
    noticed_by="Parameters that are meant to be frozen must not require a gradient, nor receive one.",
    remedy="Set requires_grad to False.",
)
def frozen_gradient(context: CheckContext) -> str | None:
    moving = [
        name
        for name, p in context.model.named_parameters()
        if context.frozen(name) and (p.requires_grad or name in context.trained)
    ]
    return f"meant to be frozen, and would be trained: {list_names(moving)}" if moving else None
