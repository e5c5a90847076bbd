"""The loss of a student: how far its distributions lie from the teacher's, mixed with the plain cross-entropy.

At each counted place (1 - h) t^2 D(teacher / t, student / t) + h CE, with t the temperature (its square keeps the size
of gradients; Hinton et al. 2015, section 2) and h the share of hard labels; and, where asked, 1 - cosine of the two
hidden vectors (Sanh et al. 2019, "DistilBERT", there over all tokens, here at the places that count). Where the
student wrote the tokens itself there is no label, and h is 0.

The logits of both sides are the widest tensors there are: they live for some rows at a time.

Shapes: B rows, T tokens, N counted places, C of them at a time, D width, V vocabulary, K cached ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from parakit.compression.config import DistillConfig
from parakit.compression.distillation.micro_batches import CachedMicroBatch, UnlabelledMicroBatch
from parakit.compression.distillation.teacher import Predictor, Teacher
from parakit.training.micro_batches import MicroBatch, Objective
from parakit.training.objectives.distribution_losses import divergence, log_probs_at_temperature
from parakit.training.objectives.fused_head_loss import can_fuse, fused_linear_loss
from parakit.training.objectives.routing import with_router_loss
from parakit.training.precision import at_least_float32

# The student's log-probabilities (C, V) at the temperature, and which places these are -> both sides' log-probabilities
# over the same events, (C, V) or (C, K + 1) each: (the teacher's, ours).
Sides = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Targets:
    """What the places that count are told."""

    sides: Sides
    target_ids: Tensor  # (N,)
    label_shares: Tensor | float  # (N,), or one for all

    def loss(self, logits: Tensor, part: slice, settings: DistillConfig) -> Tensor:
        """Summed over the places of `part`, whose logits these are (C, V)."""
        shares, total = self.label_shares, logits.new_zeros((), dtype=at_least_float32(logits[:0]).dtype)
        if isinstance(shares, Tensor):
            shares = shares[part]
        if settings.hard_label_share < 1:
            heat = settings.distill_temperature
            given, ours = self.sides(log_probs_at_temperature(logits, heat), part)
            each = divergence(given, ours, settings.divergence, settings.teacher_share)  # (C,)
            total = total + ((1 - shares) * each).sum() * heat**2
        if settings.hard_label_share > 0:
            targets = self.target_ids[part]
            each = functional.cross_entropy(at_least_float32(logits), targets, reduction="none")
            total = total + (shares * each).sum()
        return total


def distillation(teacher: Teacher | None, settings: DistillConfig) -> Objective:
    """The student's loss, summed over counted places (nats). Without a `teacher` its distributions come with the
    batches, from a cache.
    """
    assert teacher is not None or settings.hidden_coef == 0, "a cache keeps no hidden vectors"

    def objective(model: Predictor, batch: MicroBatch) -> Tensor:
        hidden = model.hidden(
            batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        )
        ours = _counted(hidden, batch)  # (N, D)
        theirs = None
        if teacher is not None and (settings.hard_label_share < 1 or settings.hidden_coef):
            theirs = _counted(teacher.hidden(batch), batch)
        loss = _soft_and_hard(
            model, ours, _targets(batch, teacher, theirs, settings, at_least_float32(ours).dtype), settings
        )
        if settings.hidden_coef and theirs is not None:
            pair = at_least_float32(ours), at_least_float32(theirs)
            loss = loss + settings.hidden_coef * (1 - functional.cosine_similarity(*pair, dim=-1)).sum()
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted)

    return objective


def _counted(values: Tensor, batch: MicroBatch) -> Tensor:
    """(B, T, ...) -> (N, ...), the places that count."""
    return values.flatten(0, 1) if batch.loss_mask is None else values[batch.loss_mask]


def _targets(
    batch: MicroBatch,
    teacher: Teacher | None,
    theirs: Tensor | None,
    settings: DistillConfig,
    dtype: torch.dtype,
) -> _Targets:
    heat = settings.distill_temperature
    shares: Tensor | float = settings.hard_label_share
    if isinstance(batch, UnlabelledMicroBatch):
        shares = shares * (~_counted(batch.unlabelled, batch)).to(dtype)
    sides: Sides
    if isinstance(batch, CachedMicroBatch):
        top_ids, top_logs = _counted(batch.top_ids, batch), _counted(batch.top_logs, batch)
        sides = lambda ours, part: (top_logs[part], top_k_log_probs(ours, top_ids[part]))  # noqa: E731
    else:

        def sides(ours: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            assert teacher is not None
            assert theirs is not None
            return log_probs_at_temperature(teacher.logits(theirs[part]), heat), ours

    return _Targets(sides, _counted(batch.target_ids, batch), shares)


def top_k_log_probs(logs: Tensor, top_ids: Tensor) -> Tensor:
    """Log-probabilities (C, V) -> those of the ids (C, K), and behind them that of all others together (C, K + 1);
    (C, V) in the order of the ids where these are all.
    """
    chosen = logs.gather(1, top_ids)
    if top_ids.shape[1] == logs.shape[1]:
        return chosen
    rest = logs.scatter(1, top_ids, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([chosen, rest], 1)


def _soft_and_hard(model: Predictor, hidden: Tensor, targets: _Targets, settings: DistillConfig) -> Tensor:
    if not can_fuse(model, hidden):
        return targets.loss(model.logits(hidden), slice(None), settings)

    def logits_grad(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        logits.requires_grad_()
        with torch.enable_grad():
            loss = targets.loss(logits, part, settings)
        (slope,) = torch.autograd.grad(loss, logits)
        return loss.detach(), slope

    return fused_linear_loss(model, hidden, logits_grad)
