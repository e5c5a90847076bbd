"""Best of n against every subset, and the choice of what is tuned on."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.alignment.rl.best_of_n import (
    best_of_n_curve,
    best_samples,
    expected_best,
    kl_bound,
)
from parakit.alignment.rl.prompts import SampledCompletion
from parakit.data.conversations.conversation import Message


@given(st.lists(st.lists(st.floats(-9, 9, allow_nan=False), min_size=6, max_size=6), min_size=1, max_size=3))
def test_the_expected_best_is_the_mean_over_all_subsets(rows: list[list[float]]) -> None:
    rewards = np.array(rows)
    for n in range(1, 7):
        wanted = np.mean([[max(subset) for subset in combinations(row, n)] for row in rows])
        assert expected_best(rewards, n) == pytest.approx(float(wanted), abs=1e-9)


@given(
    st.lists(
        st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=5, max_size=5, unique_by=lambda p: p[0]
    )
)
def test_the_best_by_one_reward_is_judged_by_another(pairs: list[tuple[int, int]]) -> None:
    by, rewards = (np.array(row, dtype=float)[None] for row in zip(*pairs, strict=True))
    for n in range(1, 6):
        wanted = np.mean([max(subset)[1] for subset in combinations(pairs, n)])
        assert expected_best(rewards, n, by=by) == pytest.approx(float(wanted), abs=1e-9)


def test_the_bound_on_the_divergence() -> None:
    assert kl_bound(1) == 0.0
    assert kl_bound(16) == pytest.approx(math.log(16) - 15 / 16)
    points = best_of_n_curve(np.arange(12.0).reshape(2, 6))
    assert [point["n"] for point in points] == [1, 2, 4, 6]
    assert points[-1]["reward"] == 8.0


def test_the_best_is_chosen_and_prompts_without_one_are_left_out() -> None:
    samples = [SampledCompletion((Message("user", f"q{i // 3}"),), None, f"c{i}") for i in range(9)]
    rewards = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, -2.0]])
    found = list(best_samples(samples, rewards))
    assert [(sample.completion, value) for sample, value in found] == [("c1", 3.0), ("c6", 0.0)]
    conversation = found[0][0].conversation()
    assert [message.content for message in conversation.messages] == ["q0", "c1"]
