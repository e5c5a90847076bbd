"""Ratings against scikit-learn's logistic regression, a plain loop of Elo, and data without a finite maximum."""

from __future__ import annotations

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.evaluation.judging.ratings import (
    CENTRE,
    ELO_K,
    SCALE,
    Match,
    bradley_terry,
    elo,
    rate,
    rate_groups,
)

STRENGTHS = {"a": 0.9, "b": 0.1, "c": -0.2, "d": -0.8}


def drawn_comparisons(n: int, seed: int = 0, p_tie: float = 0.2) -> list[Match]:
    generator, names = np.random.default_rng(seed), list(STRENGTHS)
    found = []
    for i in range(n):
        first, second = generator.choice(names, 2, replace=False)
        chance = 1 / (1 + np.exp(STRENGTHS[second] - STRENGTHS[first]))
        outcome = 0.5 if generator.random() < p_tie else float(generator.random() < chance)
        found.append(Match(f"q{i // 3}", str(first), str(second), outcome))
    return found


def test_bradley_terry_is_a_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    comparisons = drawn_comparisons(300)
    names = sorted(STRENGTHS)
    rows, labels, weights = [], [], []
    for one in comparisons:
        row = [(name == one.first) - (name == one.second) for name in names]
        rows += [row, row]  # a tie is half a win of each
        labels += [1, 0]
        weights += [one.outcome, 1 - one.outcome]
    fit = linear_model.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    coefficients = fit.fit(rows, labels, sample_weight=weights).coef_[0]
    expected = dict(zip(names, CENTRE + SCALE * (coefficients - coefficients.mean()), strict=True))
    table = rate(comparisons, n_resamples=10)
    for one in table.ratings:
        assert one.bradley_terry.value == pytest.approx(expected[one.model], abs=0.02)
    values = [one.bradley_terry.value for one in table.ratings]
    assert values == sorted(values, reverse=True)
    assert not table.notes


def test_two_models_have_the_odds_of_their_wins() -> None:
    wins = np.array([[[0, 30.0], [10.0, 0]], [[0, 7.5], [2.5, 0]]])
    found = bradley_terry(wins)
    np.testing.assert_allclose(found[:, 0] - found[:, 1], np.log(3), atol=1e-9)


def test_intervals_hold_the_truth_and_narrow_with_data() -> None:
    few, many = (rate(drawn_comparisons(n, 3, p_tie=0.0), n_resamples=200) for n in (90, 1800))
    centre = np.mean(list(STRENGTHS.values()))
    for one in many.ratings:
        truth = CENTRE + SCALE * (STRENGTHS[one.model] - centre)
        assert one.bradley_terry.low - 5 < truth < one.bradley_terry.high + 5
    widths = [
        np.mean([one.bradley_terry.high - one.bradley_terry.low for one in t.ratings]) for t in (few, many)
    ]
    assert widths[0] > 3 * widths[1]


def test_elo_is_the_plain_update() -> None:
    comparisons = drawn_comparisons(60)
    names = list(STRENGTHS)
    pairs = np.array([(names.index(one.first), names.index(one.second)) for one in comparisons])
    outcomes = np.array([one.outcome for one in comparisons])
    orders = [np.arange(60), np.arange(59, 9, -1)]
    found = elo(pairs, outcomes, orders, len(names))
    for order, row in zip(orders, found, strict=True):
        ratings = dict.fromkeys(names, CENTRE)
        for i in order:
            one = comparisons[i]
            expected = 1 / (1 + 10 ** ((ratings[one.second] - ratings[one.first]) / 400))
            ratings[one.first] += ELO_K * (one.outcome - expected)
            ratings[one.second] -= ELO_K * (one.outcome - expected)
        np.testing.assert_allclose(row, [ratings[name] for name in names])


def test_a_model_that_won_everything_has_a_finite_rating_and_a_note() -> None:
    comparisons = [Match(f"q{i}", "best", name, 1.0) for i in range(20) for name in ("b", "c")]
    comparisons += [Match(f"q{i}", "b", "c", float(i % 2)) for i in range(20)]
    table = rate(comparisons, n_resamples=50)
    best = table.ratings[0]
    assert (best.model, best.wins, best.losses) == ("best", 40, 0)
    assert np.isfinite([best.bradley_terry.value, best.bradley_terry.low, best.bradley_terry.high]).all()
    assert "best won every comparison" in table.notes[0]
    assert table.ratings[1].bradley_terry.value == pytest.approx(table.ratings[2].bradley_terry.value)


def test_models_that_never_met_are_refused() -> None:
    apart = [Match("q", "a", "b", 0.5), Match("q", "c", "d", 1.0)]
    with pytest.raises(UserError, match="a and c were never compared"):
        rate(apart)
    with pytest.raises(UserError, match="at least two models"):
        rate([])


def test_groups_that_never_met_are_rated_apart() -> None:
    first = [Match(f"p{i}", "a", "b", float(i % 3 > 0)) for i in range(9)]
    second = [Match(f"q{i}", "c", "d", float(i % 2)) for i in range(6)]
    bridge = [Match("r", "d", "e", 1.0), Match("s", "e", "d", 1.0)]
    tables = rate_groups([*second, *first, *bridge])
    assert [{one.model for one in table.ratings} for table in tables] == [{"a", "b"}, {"c", "d", "e"}]
    assert tables[0].ratings == rate(first).ratings
    assert len(rate_groups([*first, Match("t", "b", "c", 0.5), *second])) == 1
