"""Paired tests, Holm's correction and the number of items, against scipy, hand computation and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from parakit.common.seeds import rng
from parakit.evaluation.comparison.paired_tests import detectable, holm, items_needed, paired_test
from parakit.evaluation.intervals import exchange_p_value, mcnemar_p_value


def test_shares_have_mcnemars_test_and_other_scores_an_exchange_of_each_items_values() -> None:
    generator = rng(0, "scores")
    first = generator.random(300)
    second = first + generator.normal(0.02, 0.1, 300)
    found = paired_test(first, second)
    reference = stats.permutation_test(
        (second, first), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples",
        n_resamples=9999, vectorized=True, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found.difference.p_value == pytest.approx(reference.pvalue, abs=0.01)
    low, high = stats.t.interval(0.95, 299, np.mean(second - first), stats.sem(second - first))
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), abs=0.002)
    assert not found.is_binary
    binary = paired_test(np.repeat([1.0, 0.0], 50), np.r_[np.ones(45), np.zeros(45), np.ones(10)])
    assert binary.is_binary
    assert (binary.n_higher, binary.n_lower, binary.variance) == (10, 5, 0.15)
    assert binary.difference.p_value == pytest.approx(
        stats.binomtest(5, 15).pvalue
    )  # McNemar's exact test is a binomial one
    assert mcnemar_p_value(5, 10) == binary.difference.p_value


def test_the_exchange_test_is_valid_where_few_items_move() -> None:
    assert exchange_p_value(np.zeros(40)) == 1.0
    exact = stats.permutation_test(
        (np.array([0.3, 0.2, 0.4, 0.5, 0.1, 0.25, 0.35]), np.zeros(7)), lambda a, b: np.mean(a - b),
        permutation_type="samples", n_resamples=np.inf,
    ).pvalue  # fmt: skip
    assert exact == 2 / 2**7
    assert exchange_p_value(np.array([0.3, 0.2, 0.4, 0.5, 0.1, 0.25, 0.35])) == pytest.approx(exact, abs=3e-3)
    many = rng(1, "many").normal(0.05, 1, 5000)
    assert exchange_p_value(many) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, rel=0.02)


def test_holm_steps_down_and_weights_share_the_level() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and no smaller than the one before
    assert holm(p_values, [1] * 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, 0.02], [3, 1]) == pytest.approx([0.02 * 4 / 3, 0.02 * 4 / 3])
    assert holm([0.3], [5]) == [0.3]
    assert holm([], []) == []


def test_hardly_any_family_of_true_hypotheses_has_a_verdict() -> None:
    """With weights as a comparison has them, the chance of any wrong verdict among nine is at most the level."""
    drawn = rng(0, "families").random((4000, 9))
    wrong = np.mean([min(holm(list(row), [8.0, *[1.0] * 8])) < 0.05 for row in drawn])
    assert 0.035 < wrong < 0.06


@pytest.mark.parametrize(("disagree", "difference"), [(0.1, 0.03), (0.25, 0.05), (0.3, 0.1)])
def test_so_many_items_tell_the_difference_as_often_as_planned(disagree: float, difference: float) -> None:
    worse, better = (disagree + difference) / 2, (disagree - difference) / 2
    sample = np.zeros((1000, 2))
    sample[: round(1000 * disagree / 2), 0] = sample[-round(1000 * disagree / 2) :, 1] = 1
    test = paired_test(sample[:, 0], sample[:, 1])
    n = items_needed(test, difference, level=0.05, power=0.9)
    z = stats.norm.ppf([0.975, 0.9])
    by_hand = (z[0] * math.sqrt(disagree) + z[1] * math.sqrt(disagree - difference**2)) ** 2 / difference**2
    assert n == math.ceil(by_hand)
    counts = rng(0, "power").multinomial(n, [worse, better, 1 - disagree], 2000)
    told = np.mean([mcnemar_p_value(int(a), int(b)) < 0.05 for a, b, _ in counts])
    assert told == pytest.approx(0.9, abs=0.035)


def test_what_is_told_by_so_many_items_is_the_inverse_of_the_items_needed() -> None:
    generator = rng(2, "inverse")
    for first, second in [
        (generator.random(800) < 0.6, generator.random(800) < 0.6),
        (generator.random(800), generator.random(800)),
    ]:
        test = paired_test(first, second)
        smallest = detectable(test, level=0.05, power=0.95)
        assert items_needed(test, smallest, level=0.05, power=0.95) == pytest.approx(800, abs=1)
    same = np.ones(50)
    assert (
        items_needed(paired_test(same, same), 0.02, level=0.05, power=0.95) > 300
    )  # at the least disagreement
    flat = np.full(50, 0.3)
    assert items_needed(paired_test(flat, flat), 0.02, level=0.05, power=0.95) is None
