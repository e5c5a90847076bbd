"""The reward model's objective against a derivation: one reward a completion, at its last token."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch.nn import functional

from parakit.alignment.preferences.reward_model import RewardObjective, completion_rewards
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.micro_batches import RankingMicroBatch, to_micro_batch
from tests.alignment.ranking_cases import encoded, reward_model


def micro(sizes: list[int]) -> RankingMicroBatch:
    batch: RankingMicroBatch = to_micro_batch(
        PreferenceSource(encoded(sizes), 0).batch_of(range(len(sizes))), torch.device("cpu")
    )
    return batch


def alone(model: Any, sizes: list[int]) -> torch.Tensor:
    """Each completion by itself, without padding."""
    data = encoded(sizes)
    ids = [torch.from_numpy(data.sequence(i).astype("int64"))[None] for i in range(data.n_completions)]
    return torch.cat([model(one) for one in ids])


def test_a_reward_is_read_at_the_last_token_whatever_stands_beside_it() -> None:
    model, sizes = reward_model(), [2, 3, 2]
    torch.testing.assert_close(completion_rewards(model, micro(sizes)), alone(model, sizes))


@pytest.mark.parametrize("row_margins", [False, True])
def test_loss_and_gradient_of_pairs(row_margins: bool) -> None:
    model, sizes = reward_model(), [2] * 5
    rewards = alone(model, sizes)
    lead = rewards[0::2] - rewards[1::2] - 0.4
    if row_margins:
        lead = lead - torch.from_numpy(encoded(sizes).margins).double()
    centre = 0.3 * (rewards[0::2] + rewards[1::2]).square()
    derived = (-functional.logsigmoid(lead) + centre).sum()

    actual = RewardObjective(0.4, row_margins, 0.3)(model, micro(sizes))
    assert float(actual.detach()) == pytest.approx(float(derived.detach()), rel=1e-9)
    for one, other in zip(
        torch.autograd.grad(actual, list(model.parameters())),
        torch.autograd.grad(derived, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_figures_are_means_over_pairs() -> None:
    model, sizes = reward_model(), [2, 3]
    objective = RewardObjective()
    objective(model, micro(sizes))
    rewards = alone(model, sizes).tolist()
    leads = [rewards[0] - rewards[1], *(a - b for a, b in combinations(rewards[2:], 2))]
    figures = objective.metrics.pop()
    assert figures["accuracy"] == pytest.approx(sum(lead > 0 for lead in leads) / 4)
    assert figures["margin"] == pytest.approx(sum(leads) / 4)
