"""The distillation loss: a divergence from the teacher's distributions, mixed with the cross-entropy of the labels.

At each counted position (1 - h) t^2 D(teacher / t, student / t) + h CE, with temperature t (t^2 preserves the size of
gradients; Hinton et al. 2015, section 2) and the share h of hard labels. Optional: 1 - cosine of the hidden vectors (Sanh
et al. 2019, "DistilBERT", there over all tokens, here over counted ones). Tokens that the student generated have no label,
and h is 0.

Both models' logits are the widest tensors, so they exist for some rows at a time.

Shapes: B rows, T tokens, N counted positions, C of them at a time, D width, V vocabulary, K cached ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from parakit.common.choices import part_of
from parakit.compression.config import DistillConfig, JensenShannon
from parakit.compression.distillation.micro_batches import CachedMicroBatch, UnlabelledMicroBatch
from parakit.compression.distillation.teacher import Predictor, Teacher
from parakit.model.precision import at_least_float32
from parakit.training.micro_batches import MicroBatch, Objective
from parakit.training.objectives.distribution_losses import divergence, log_probs_at_temperature
from parakit.training.objectives.fused_head_loss import can_fuse_head, fused_linear_loss
from parakit.training.objectives.routing import with_router_loss

# The student's log-probabilities (C, V) at the temperature, and the slice of positions -> both models'
# log-probabilities of the same events, (C, V) or (C, K + 1) each: (teacher, student).
EventLogProbs = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Targets:
    """The targets of the counted positions."""

    event_log_probs: EventLogProbs
    target_ids: Tensor  # (N,)
    label_shares: Tensor | float  # (N,), or one for all

    def loss(self, logits: Tensor, part: slice, settings: DistillConfig) -> Tensor:
        """The loss summed over the positions of `part`, with logits (C, V)."""
        shares, total = self.label_shares, logits.new_zeros((), dtype=at_least_float32(logits[:0]).dtype)
        if isinstance(shares, Tensor):
            shares = shares[part]
        if settings.hard_label_share < 1:
            temperature = settings.distill_temperature
            teacher_logs, student_logs = self.event_log_probs(
                log_probs_at_temperature(logits, temperature), part
            )
            mixture = part_of(settings, JensenShannon)
            teacher_share = mixture.teacher_share if mixture else 0.5
            each = divergence(teacher_logs, student_logs, settings.divergence, teacher_share)  # (C,)
            total = total + ((1 - shares) * each).sum() * temperature**2
        if settings.hard_label_share > 0:
            targets = self.target_ids[part]
            each = functional.cross_entropy(at_least_float32(logits), targets, reduction="none")
            total = total + (shares * each).sum()
        return total


def distillation(teacher: Teacher | None, settings: DistillConfig) -> Objective:
    """The student's loss, summed over counted positions (nats). Without `teacher`, batches have its cached distributions."""
    assert teacher is not None or settings.hidden_coef == 0, "a cache has no hidden vectors"

    def objective(model: Predictor, batch: MicroBatch) -> Tensor:
        hidden = model.hidden(
            batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        )
        student_hidden = _counted(hidden, batch)  # (N, D)
        teacher_hidden = None
        if teacher is not None and (settings.hard_label_share < 1 or settings.hidden_coef):
            teacher_hidden = _counted(teacher.hidden(batch), batch)
        targets = _targets(batch, teacher, teacher_hidden, settings, at_least_float32(student_hidden).dtype)
        loss = _mixed_loss(model, student_hidden, targets, settings)
        if settings.hidden_coef and teacher_hidden is not None:
            pair = at_least_float32(student_hidden), at_least_float32(teacher_hidden)
            loss = loss + settings.hidden_coef * (1 - functional.cosine_similarity(*pair, dim=-1)).sum()
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted)

    return objective


def _counted(values: Tensor, batch: MicroBatch) -> Tensor:
    """(B, T, ...) -> (N, ...), the counted positions."""
    return values.flatten(0, 1) if batch.loss_mask is None else values[batch.loss_mask]


def _targets(
    batch: MicroBatch,
    teacher: Teacher | None,
    teacher_hidden: Tensor | None,
    settings: DistillConfig,
    dtype: torch.dtype,
) -> _Targets:
    temperature = settings.distill_temperature
    shares: Tensor | float = settings.hard_label_share
    if isinstance(batch, UnlabelledMicroBatch):
        shares = shares * (~_counted(batch.unlabelled, batch)).to(dtype)
    event_log_probs: EventLogProbs
    if isinstance(batch, CachedMicroBatch):
        top_ids, top_logs = _counted(batch.top_ids, batch), _counted(batch.top_logs, batch)
        event_log_probs = lambda logs, part: (top_logs[part], top_k_log_probs(logs, top_ids[part]))  # noqa: E731
    else:

        def event_log_probs(logs: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            assert teacher is not None
            assert teacher_hidden is not None
            return log_probs_at_temperature(teacher.logits(teacher_hidden[part]), temperature), logs

    return _Targets(event_log_probs, _counted(batch.target_ids, batch), shares)


def top_k_log_probs(logs: Tensor, top_ids: Tensor) -> Tensor:
    """Log-probabilities (C, V) -> those of the ids and, last, of all others together (C, K + 1); if the ids are the whole
    vocabulary, (C, V) in their order.
    """
    chosen = logs.gather(1, top_ids)
    if top_ids.shape[1] == logs.shape[1]:
        return chosen
    rest = logs.scatter(1, top_ids, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([chosen, rest], 1)


def _mixed_loss(model: Predictor, hidden: Tensor, targets: _Targets, settings: DistillConfig) -> Tensor:
    if not can_fuse_head(model, hidden):
        return targets.loss(model.logits(hidden), slice(None), settings)

    def logits_grad(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        logits.requires_grad_()
        with torch.enable_grad():
            loss = targets.loss(logits, part, settings)
        (slope,) = torch.autograd.grad(loss, logits)
        return loss.detach(), slope

    return fused_linear_loss(model, hidden, logits_grad)
