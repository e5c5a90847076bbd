"""A reward model: a decoder that gives one number to a conversation's last answer, trained on rankings (Stiennon et al.
2020; Ouyang et al. 2022).

The loss depends on differences only, so `reward_centering_coef` keeps the sum of a ranking's rewards near zero (Eisenstein
et al. 2023, section 2), which makes rewards of different prompts comparable.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from parakit.alignment.mean_metrics import MeanMetrics
from parakit.alignment.preferences.rankings import (
    pad_by_group,
    pair_margins,
    pairwise_accuracy,
    plackett_luce,
)
from parakit.alignment.preferences.shared_prefix import hidden_at
from parakit.model.heads import RewardModel
from parakit.model.precision import at_least_float32
from parakit.training.micro_batches import RankingMicroBatch
from parakit.training.objectives.routing import with_router_loss


def completion_rewards(model: RewardModel, batch: RankingMicroBatch) -> Tensor:
    """(N,): each completion's reward, at its end of turn."""
    return _rewards(model, batch)[0]


def _rewards(model: RewardModel, batch: RankingMicroBatch) -> tuple[Tensor, Tensor | None]:
    """The rewards, and the mask of the positions that passed the network."""
    whole = batch.full_mask
    if batch.prefix_tree is None:  # attention of an encoder must exclude the padding
        return at_least_float32(model(batch.full_ids, attention_mask=whole)), whole
    ends = whole & ~functional.pad(whole[:, 1:], (0, 1))
    hidden, real_mask = hidden_at(model, batch.full_ids, ends, batch.prefix_tree)
    return at_least_float32(model.rewards(hidden)), real_mask


class RewardObjective:
    """The summed loss of the rankings, in nats; `metrics` are means since they were last popped."""

    def __init__(
        self, margin: float = 0.0, row_margins: bool = False, reward_centering_coef: float = 0.0
    ) -> None:
        self.margin, self.row_margins, self.reward_centering_coef = margin, row_margins, reward_centering_coef
        self.metrics = MeanMetrics()

    def __call__(self, model: RewardModel, batch: RankingMicroBatch) -> Tensor:
        rewards, real_mask = _rewards(model, batch)
        scores, present = pad_by_group(rewards, batch)
        margin = torch.full_like(scores[:, 0], self.margin)
        if self.row_margins:
            margin = margin + batch.margins
        loss = plackett_luce(scores, present, margin).sum()
        if self.reward_centering_coef:
            loss = loss + self.reward_centering_coef * scores.sum(1).square().sum()
        self.metrics.add("accuracy", pairwise_accuracy(scores, present))
        self.metrics.add("margin", pair_margins(scores, present))
        self.metrics.add("reward", rewards)
        return with_router_loss(loss, model, real_mask, batch.n_counted)
