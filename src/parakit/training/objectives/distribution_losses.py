"""Learning from whole distributions: how likely each token was, not which one came.

The Kullback-Leibler divergence from given distributions (Hinton et al. 2015, with a temperature that brings
forward the unlikely ones). Forward, KL(given || model), asks the model to cover all that is given; reverse,
KL(model || given), to keep to what is likely there (Gu et al. 2024, "MiniLLM").

Shapes: B rows, T tokens, V vocabulary, N counted tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from parakit.model.heads import LanguageModel
from parakit.training.micro_batches import DistributionMicroBatch, Objective
from parakit.training.objectives.routing import with_router_loss
from parakit.training.precision import at_least_float32


def divergence(
    direction: Literal["forward", "reverse"] = "forward", distill_temperature: float = 1.0
) -> Objective:
    """Divergence between the given distribution and the model's at each counted place, summed (nats).

    Both sides' logits are divided by `distill_temperature`, and the loss multiplied by its square, which keeps
    the size of gradients (Hinton et al. 2015, section 2).
    """
    assert distill_temperature > 0
    assert direction in ("forward", "reverse")

    def objective(model: LanguageModel, batch: DistributionMicroBatch) -> Tensor:
        hidden = model.hidden(
            batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        )
        if batch.loss_mask is None:
            hidden, given = hidden.flatten(0, 1), batch.target_logits.flatten(0, 1)
        else:
            hidden, given = hidden[batch.loss_mask], batch.target_logits[batch.loss_mask]  # (N, D), (N, V)
        ours, given = (
            (at_least_float32(logits) / distill_temperature).log_softmax(-1)
            for logits in (model.logits(hidden), given)
        )
        p, q = (given, ours) if direction == "forward" else (ours, given)
        # Where p is zero, p log (p / q) is zero, whatever q: such places are left out before they make 0 * inf.
        apart = torch.where(p > -torch.inf, p - q, 0.0)
        loss = (p.exp() * apart).sum() * distill_temperature**2
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted)

    return objective
