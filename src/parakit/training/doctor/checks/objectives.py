"""The objective is the loss of its task, in float32, on targets that are shifted once."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from parakit.tokens.batches.batch import AnyBatch, PairBatch
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import forward, micro_batch
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.probes import row_slice, uneven_mask, with_loss_mask
from parakit.training.doctor.row_formats import ALL, DECODER, SEQUENCES, SUMMED
from parakit.training.micro_batches import LabelledMicroBatch, MicroBatch, PairMicroBatch
from parakit.training.precision import Precision

check = partial(registry.check, subject="Objectives", runs_model=True)


@check(
    "objective-shifts-targets",
    applies_to=(*DECODER, *SEQUENCES),
    prevents="The objective shifts targets that the batch has shifted: the model learns to skip a token.",
    noticed_by="The loss is compared with the cross-entropy of the targets, and of the targets one column further.",
    remedy="Compare logits and targets of the same column: the batch has shifted them.",
)
@torch.no_grad()
def objective_shifts_targets(context: CheckContext) -> str | None:
    model = context.model
    micro = micro_batch(model, uneven_mask(context.probe))
    loss, logits = float(context.objective(model, micro)), forward(model, micro).double()
    if _is_close(loss, _cross_entropy(logits, micro)) or not _is_close(
        loss, _cross_entropy(logits, micro, 1)
    ):
        return None
    return "the objective shifts the targets a second time"


def _cross_entropy(logits: Tensor, micro: MicroBatch | PairMicroBatch, ahead: int = 0) -> float:
    """Of the counted targets, `ahead` columns further, in float64."""
    n = logits.shape[1] - ahead
    mask, targets = _mask(micro)[:, ahead:], micro.target_ids[:, ahead:]
    return float(functional.cross_entropy(logits[:, :n][mask], targets[mask], reduction="sum"))


def _mask(micro: MicroBatch | PairMicroBatch) -> Tensor:
    return torch.ones_like(micro.target_ids, dtype=torch.bool) if micro.loss_mask is None else micro.loss_mask


def _is_close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-3 * max(abs(other), 1e-6)


@check(
    "objective-differs",
    applies_to=SUMMED,
    prevents="The objective is another loss than its task's: scaled, averaged, or of other positions.",
    noticed_by="The loss of two small batches is compared with the task's loss, derived from the logits in float64; label"
    " smoothing is recognized.",
    remedy="Return the sum of the task's loss over what counts.",
    sources=("transformers PR #34191",),
)
@torch.no_grad()
def objective_differs(context: CheckContext) -> str | None:
    model, probe, losses = context.model, context.probe, []
    for batch in (uneven_mask(probe), with_loss_mask(row_slice(probe, 0, 1))):
        if batch.n_counted:
            loss = float(context.objective(model, micro_batch(model, batch)))
            losses.append((loss, *_expected_loss(model, batch)))
    if all(_is_close(loss, expected) for loss, expected, _ in losses):
        return None
    # Label smoothing mixes the same share of the even distribution into every target of an encoder-decoder.
    shares = [
        (loss - expected) / (even - expected) if even != expected else np.nan
        for loss, expected, even in losses
    ]
    is_smoothed = isinstance(probe, PairBatch) and all(0 < share < 0.9 for share in shares)
    if is_smoothed and abs(shares[0] - shares[-1]) < 5e-3:
        return None
    loss, expected, _ = losses[0]
    return f"the loss is {loss:.6g}, and the task's loss of what counts is {expected:.6g}"


def _expected_loss(model: Any, batch: AnyBatch) -> tuple[float, float]:
    """The loss that an objective should have, in float64; and the loss with every token of the vocabulary as target."""
    micro = micro_batch(model, batch)
    out = forward(model, micro).double()
    if isinstance(micro, LabelledMicroBatch):
        labels = micro.labels
        if model.classes.regression:
            return float((out.squeeze(-1) - labels.double()).square().sum()), 0.0
        if model.classes.multi_label:
            losses = functional.binary_cross_entropy_with_logits(out, labels.double(), reduction="none")
            return float(losses.mean(-1).sum()), 0.0
        if model.classes.level == "span":
            out = (
                out
                if micro.attention_mask is None
                else out.masked_fill(~micro.attention_mask[..., None], -torch.inf)
            )
            return float(functional.cross_entropy(out, labels, reduction="sum") / 2), 0.0
        if micro.loss_mask is not None:
            out, labels = out[micro.loss_mask], labels[micro.loss_mask]
        return float(functional.cross_entropy(out, labels, reduction="sum")), 0.0
    mask = _mask(micro)
    log_p = out[mask].log_softmax(-1)
    loss = float(functional.nll_loss(log_p, micro.target_ids[mask], reduction="sum"))
    return loss, float(-log_p.mean(-1).sum())


@check(
    "half-precision-loss",
    applies_to=(*ALL, "distill"),
    prevents="The loss is computed in half precision, which rounds it to three digits.",
    noticed_by="The type of the loss of one row under autocast is read.",
    remedy="Convert logits to float32 before the loss.",
)
@torch.no_grad()
def half_precision_loss(context: CheckContext) -> str | None:
    model = context.model
    precision = Precision(context.plan.precision, next(model.parameters()).device)
    with precision.autocast():
        dtype = context.objective(model, micro_batch(model, row_slice(context.probe, 0, 1))).dtype
    return None if dtype in (torch.float32, torch.float64) else f"the loss is computed in {dtype}"
