"""Divergence from given distributions over the vocabulary, as in distillation.

The Kullback-Leibler divergence (Hinton et al. 2015; the temperature raises the weight of unlikely tokens). Forward,
KL(given || model), covers the modes of the given distribution; reverse, KL(model || given), seeks the likeliest (Gu et al.
2024, "MiniLLM"). The generalised Jensen-Shannon divergence is between the two (Agarwal et al. 2024, "GKD").

Shapes: B rows, T tokens, V vocabulary, N counted tokens.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from parakit.model.heads import LanguageModel
from parakit.model.precision import at_least_float32
from parakit.training.micro_batches import DistributionMicroBatch, Objective
from parakit.training.objectives.routing import with_router_loss

Direction = Literal["forward", "reverse", "jensen_shannon"]


def log_probs_at_temperature(logits: Tensor, distill_temperature: float) -> Tensor:
    """Log-probabilities (..., V) of logits over a temperature, in float32 or better."""
    return (at_least_float32(logits) / distill_temperature).log_softmax(-1)


def divergence(given: Tensor, model: Tensor, direction: Direction, teacher_share: float = 0.5) -> Tensor:
    """Divergence of two distributions at each position (nats): log-probabilities (N, V) of both -> (N,).

    With P given, Q the model's and b the `teacher_share`, "jensen_shannon" is b KL(P || M) + (1 - b) KL(Q || M), where M is
    b P + (1 - b) Q (Agarwal et al. 2024, section 2): over b it tends to the forward divergence as b goes to 0, over
    1 - b to the reverse one as b goes to 1.
    """
    if direction == "forward":
        return _kl(given, model)
    if direction == "reverse":
        return _kl(model, given)
    assert 0 < teacher_share < 1, teacher_share
    mixed = torch.logaddexp(given + math.log(teacher_share), model + math.log1p(-teacher_share))
    return teacher_share * _kl(given, mixed) + (1 - teacher_share) * _kl(model, mixed)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities (N, V). Where p is zero, so is p log (p / q) for any q; those terms are set to zero
    before they become 0 * inf.
    """
    return (p.exp() * torch.where(p > -torch.inf, p - q, 0.0)).sum(-1)


def distribution_matching(
    direction: Direction = "forward", distill_temperature: float = 1.0, teacher_share: float = 0.5
) -> Objective:
    """Divergence between the given distribution and the model's at each counted position, summed (nats).

    Both logits are divided by `distill_temperature`, and the loss is multiplied by its square, which keeps the size of
    gradients (Hinton et al. 2015, section 2).
    """
    assert distill_temperature > 0
    assert direction in ("forward", "reverse", "jensen_shannon")

    def objective(model: LanguageModel, batch: DistributionMicroBatch) -> Tensor:
        hidden = model.hidden(
            batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        )
        if batch.loss_mask is None:
            hidden, given = hidden.flatten(0, 1), batch.target_logits.flatten(0, 1)
        else:
            hidden, given = hidden[batch.loss_mask], batch.target_logits[batch.loss_mask]  # (N, D), (N, V)
        predicted, given = (
            log_probs_at_temperature(logits, distill_temperature) for logits in (model.logits(hidden), given)
        )
        loss = divergence(given, predicted, direction, teacher_share).sum() * distill_temperature**2
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted)

    return objective
