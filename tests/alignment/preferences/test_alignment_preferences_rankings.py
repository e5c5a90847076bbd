"""The likelihood of a ranking, its gradient and its limits, against derivations written here."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.alignment.preferences.rankings import (
    ipo_loss,
    log_prob_rounding,
    pad_by_group,
    pair_margins,
    pairwise_accuracy,
    plackett_luce,
)
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.micro_batches import to_micro_batch
from tests.alignment.ranking_cases import encoded

CPU = torch.device("cpu")


def laid(rows: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores as (R, K), and where there are some."""
    width = max(map(len, rows))
    scores = torch.tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=torch.float64)
    there = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return scores.requires_grad_(), there


def derived(scores: list[float], margin: float = 0.0) -> float:
    """Minus the log of the probability of the order, term by term."""
    nats = 0.0
    for k in range(len(scores) - 1):
        rivals = sum(math.exp(other + margin) for other in scores[k + 1 :])
        nats -= scores[k] - math.log(math.exp(scores[k]) + rivals)
    return nats


def derived_gradient(scores: list[float], margin: float = 0.0) -> list[float]:
    """Of each score: for every choice in which it took part, its probability less whether it was chosen."""
    slopes = [0.0] * len(scores)
    for k in range(len(scores) - 1):
        weights = [math.exp(scores[k]), *(math.exp(other + margin) for other in scores[k + 1 :])]
        for j, weight in enumerate(weights, k):
            slopes[j] += weight / sum(weights) - (j == k)
    return slopes


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.floats(-8, 8), min_size=2, max_size=5), min_size=1, max_size=4),
    st.floats(-2, 2),
)
def test_rankings_of_any_sizes_have_the_derived_loss_and_gradient(
    rows: list[list[float]], margin: float
) -> None:
    scores, there = laid(rows)
    loss = plackett_luce(scores, there, torch.full((len(rows),), margin, dtype=torch.float64))
    loss.sum().backward()

    np.testing.assert_allclose(loss.tolist(), [derived(row, margin) for row in rows], rtol=1e-6, atol=1e-9)
    assert scores.grad is not None
    for row, slope in zip(rows, scores.grad.tolist(), strict=True):
        np.testing.assert_allclose(slope[: len(row)], derived_gradient(row, margin), rtol=1e-6, atol=1e-9)
        assert slope[len(row) :] == [0.0] * (len(slope) - len(row))


def test_the_probabilities_of_all_orders_sum_to_one() -> None:
    orders = [list(order) for order in itertools.permutations([0.3, -1.2, 2.0, 0.1])]
    scores, there = laid(orders)
    loss = plackett_luce(scores, there, torch.zeros(len(orders), dtype=torch.float64))
    assert float((-loss).exp().sum().detach()) == pytest.approx(1.0)


def test_smoothed_labels_mix_in_the_ranking_upside_down() -> None:
    rows = [[1.0, -0.5, 0.2], [0.4, 2.0]]
    loss = plackett_luce(*laid(rows), torch.zeros(2, dtype=torch.float64), label_smoothing=0.2)
    wanted = [0.8 * derived(row) + 0.2 * derived(row[::-1]) for row in rows]
    np.testing.assert_allclose(loss.tolist(), wanted, rtol=1e-9)


def test_a_pair_is_bradley_and_terrys_also_where_scores_are_huge() -> None:
    scores, there = laid([[800.0, -800.0], [-800.0, 800.0]])
    loss = plackett_luce(scores, there, torch.zeros(2, dtype=torch.float64))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 1600.0]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0.0, 0.0], [-1.0, 1.0]]


def test_the_squared_lead_is_a_mean_over_pairs() -> None:
    rows = [[2.0, 0.5, 0.0], [1.0, 3.0]]
    found = ipo_loss(*laid(rows), target=1.0)
    pairs = [[(a - b - 1) ** 2 for a, b in itertools.combinations(row, 2)] for row in rows]
    np.testing.assert_allclose(found.tolist(), [np.mean(one) for one in pairs])


def test_scores_go_where_their_completions_stand() -> None:
    batch = to_micro_batch(PreferenceSource(encoded([2, 4, 3]), 0).batch_of([0, 1, 2]), CPU)
    scores, there = pad_by_group(torch.arange(9.0), batch)
    assert scores.tolist() == [[0, 1, 0, 0], [2, 3, 4, 5], [6, 7, 8, 0]]
    assert there.sum(1).tolist() == [2, 4, 3]
    assert len(pair_margins(scores, there)) == 1 + 6 + 3
    assert set(pair_margins(scores, there).tolist()) == {-1.0, -2.0, -3.0}


def test_a_margin_within_rounding_is_a_tie() -> None:
    """Two computations of the same log-probabilities differ in the last bits; training moves them by much more."""
    log_probs = torch.tensor([[-60.0, -55.0], [-60.0, -55.0], [-60.0, -55.0]])
    changes = torch.tensor([[4e-6, -8e-6], [-4e-6, 8e-6], [0.02, -0.02]])
    rounding = log_prob_rounding(log_probs, torch.full((3, 2), 12))
    log_ratios, present = (log_probs + changes) - log_probs, torch.ones(3, 2, dtype=torch.bool)
    assert pairwise_accuracy(log_ratios, present, rounding).tolist() == [0.5, 0.5, 1.0]
    assert pairwise_accuracy(log_ratios, present).tolist() == [1.0, 0.0, 1.0]
