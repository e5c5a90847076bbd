"""Intervals against their definition, published values and simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.seeds import rng
from parakit.evaluation.intervals import (
    mcnemar_p_value,
    mean_interval,
    paired_difference,
    student_t,
    wilson_interval,
)

Z = 1.959963984540054


@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilsons_ends_are_the_shares_that_the_measured_one_lies_z_errors_from(n, share):
    n_correct = round(share * n)
    low, high = wilson_interval(n_correct, n)
    assert 0 <= low <= n_correct / n <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            distance = abs(n_correct / n - end) / math.sqrt(end * (1 - end) / n)
            assert distance == pytest.approx(Z, rel=1e-6)


def test_published_values():
    assert wilson_interval(0, 10) == (0.0, pytest.approx(0.27753, abs=1e-5))
    assert wilson_interval(8, 10) == (pytest.approx(0.49016, abs=1e-5), pytest.approx(0.94332, abs=1e-5))
    assert wilson_interval(10, 10) == (pytest.approx(0.72247, abs=1e-5), 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_covers_the_true_share_about_as_often_as_it_says():
    shares = (0.03, 0.3, 0.5, 0.9)
    covered = []
    for share in shares:
        drawn = rng(0, "coverage", str(share)).binomial(100, share, 2000)
        covered += [low <= share <= high for low, high in (wilson_interval(int(k), 100) for k in drawn)]
    assert 0.93 < np.mean(covered) < 0.975


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_exact_binomial_tail(b, c):
    n, fewer = b + c, min(b, c)
    tail = 2 * sum(Fraction(math.comb(n, k), 2**n) for k in range(fewer + 1))
    assert mcnemar_p_value(b, c) == pytest.approx(float(min(tail, Fraction(1))), rel=1e-9)
    assert mcnemar_p_value(5000, 4000) < 1e-20


def test_a_paired_difference_sees_what_two_separate_intervals_cannot():
    first = [True] * 150 + [False] * 100
    second = [True] * 150 + [True] * 15 + [False] * 85  # better on 15 items, worse on none
    found = paired_difference(first, second)
    assert found.difference == pytest.approx(0.06)
    assert 0 < found.low < 0.06 < found.high
    assert found.p_value < 1e-3
    assert wilson_interval(150, 250)[1] > wilson_interval(165, 250)[0]
    assert paired_difference(first, second) == found  # the bootstrap is seeded
    same = paired_difference(first, first)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_the_bootstrap_is_as_wide_as_the_formula_for_paired_shares():
    generator = rng(1, "paired")
    first, second = generator.random(2000) < 0.6, generator.random(2000) < 0.65
    found = paired_difference(list(first), list(second))
    error = np.std(second.astype(float) - first, ddof=1) / math.sqrt(2000)
    assert found.high - found.low == pytest.approx(2 * Z * error, rel=0.06)


@pytest.mark.parametrize("degrees", [1, 2, 4, 29, 30, 31, 60, 999])
def test_quantiles_of_students_t_are_scipys(degrees):
    stats = pytest.importorskip("scipy.stats")
    assert student_t(degrees) == pytest.approx(
        stats.t.ppf(0.975, degrees), abs=6e-4 if degrees <= 30 else 2e-5
    )


def test_the_interval_of_a_mean_is_scipys_and_holds_it_as_often_as_it_should():
    stats = pytest.importorskip("scipy.stats")
    generator = rng(3, "seeds")
    values = list(generator.normal(0.4, 0.02, 5))
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high), abs=1e-5)
    held = [mean_interval(list(row)) for row in generator.normal(0.4, 0.02, (2000, 3))]
    assert 0.935 < np.mean([one.low <= 0.4 <= one.high for one in held]) < 0.965
    alone = mean_interval([0.3])
    assert (alone.value, alone.low, alone.high) == (0.3, -math.inf, math.inf)
