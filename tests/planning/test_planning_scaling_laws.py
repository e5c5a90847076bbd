"""Fits recover the law that made the losses: planted ones, and the one of Hoffmann et al. 2022 as printed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from parakit.common.errors import UserError
from parakit.planning.laws import HOFFMANN
from parakit.planning.scaling_laws import (
    MIN_RUNS,
    ScalingFit,
    ScalingLaw,
    ScalingRun,
    check_runs,
    fit_law,
    fit_with_bootstrap,
    frontier,
    kaplan_exponents,
    power_law,
)

CHINCHILLA = ScalingLaw(**vars(HOFFMANN))
PLANTED = ScalingLaw(
    name="planted",
    irreducible=1.4,
    size_factor=60.0,
    data_factor=900.0,
    size_exponent=0.31,
    data_exponent=0.42,
)
SMALL = [(n, d) for n in (1e5, 3e5, 9e5, 2.7e6) for d in (1e6, 4e6, 1.6e7, 6.4e7)]


def runs_of(law: ScalingLaw, points: list[tuple[float, float]], noise: float = 0.0) -> list[ScalingRun]:
    generator = np.random.default_rng(3)
    return [ScalingRun(n, d, law.loss(n, d) * math.exp(noise * generator.normal())) for n, d in points]


@pytest.fixture(scope="module")
def noisy() -> ScalingFit:
    return fit_with_bootstrap(runs_of(PLANTED, SMALL, noise=0.002), n_samples=60)


def test_the_law_of_chinchilla_is_recovered_from_its_own_losses() -> None:
    points = [(n, d) for n in (7e7, 4e8, 2e9, 1.6e10) for d in (1e9, 1e10, 1e11)]
    law = fit_law(runs_of(CHINCHILLA, points))
    assert law.irreducible == pytest.approx(1.69, rel=1e-4)
    assert (law.size_factor, law.data_factor) == pytest.approx((406.4, 410.7), rel=1e-3)
    assert (law.size_exponent, law.data_exponent) == pytest.approx((0.34, 0.28), rel=1e-4)
    assert law.loss(70e9, 1.4e12) == pytest.approx(CHINCHILLA.loss(70e9, 1.4e12), rel=1e-6)


def test_one_run_far_off_hardly_moves_the_law() -> None:
    runs = runs_of(PLANTED, SMALL)
    runs[5] = replace(runs[5], loss=1.1 * runs[5].loss)
    assert fit_law(runs).size_exponent == pytest.approx(PLANTED.size_exponent, rel=0.01)


def test_the_intervals_hold_the_planted_numbers_and_grow_with_the_distance(noisy: ScalingFit) -> None:
    for name in ("irreducible", "size_exponent", "data_exponent", "optimal_size_exponent"):
        found = noisy.interval(name)
        assert found.low < getattr(PLANTED, name) < found.high, name
    near, far = noisy.predict(2.7e6, 6.4e7), noisy.predict(3e7, 1e9)
    assert near.low < PLANTED.loss(2.7e6, 6.4e7) < near.high
    assert far.low < PLANTED.loss(3e7, 1e9) < far.high
    assert far.high - far.low > near.high - near.low
    assert noisy.predict(3e7, 1e9) == far  # of the same samples, nothing is drawn again


def test_a_law_of_the_same_runs_and_seed_is_the_same(noisy: ScalingFit) -> None:
    again = fit_with_bootstrap(noisy.runs, n_samples=4)
    assert (again.law, again.samples) == (noisy.law, noisy.samples[:4])


@pytest.mark.parametrize("law", [CHINCHILLA, PLANTED])
def test_the_best_split_has_the_least_loss_for_its_compute(law: ScalingLaw) -> None:
    flops = 1e19

    def loss(log_size: float) -> float:
        return law.loss(math.exp(log_size), flops / 6 / math.exp(log_size))

    parameters, tokens = law.optimal(flops)
    searched = minimize_scalar(loss, bounds=(math.log(1e5), math.log(1e12)), method="bounded")
    assert 6 * parameters * tokens == pytest.approx(flops)
    assert math.log(parameters) == pytest.approx(searched.x, abs=0.01)
    gained = law.loss(*law.optimal(flops)) - law.irreducible
    hundredfold = law.loss(*law.optimal(100 * flops)) - law.irreducible
    assert math.log(gained / hundredfold) / math.log(100) == pytest.approx(law.compute_exponent)


def test_a_single_power_law_is_the_line_through_the_logarithms() -> None:
    points = [(x, 7.0 * x**-0.076) for x in (1e5, 1e6, 1e7, 1e8)]  # the exponent of L(N) in Kaplan et al.
    found = power_law(points)
    assert (found.exponent.value, found.coefficient) == pytest.approx((0.076, 7.0))
    assert found.exponent.high - found.exponent.low < 1e-9
    assert found.loss(1e9) == pytest.approx(7.0 * 1e9**-0.076)


def test_the_interval_of_an_exponent_is_that_of_a_regression() -> None:
    generator = np.random.default_rng(0)
    x = np.geomspace(1e5, 1e8, 7)
    y = 5 * x**-0.1 * np.exp(0.01 * generator.normal(size=7))
    found = power_law(list(zip(x, y, strict=True))).exponent
    coefficients, covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    half = 2.570582 * math.sqrt(covariance[0, 0])  # Student's t of five degrees of freedom, from its tables
    assert (found.low, found.high) == pytest.approx((-coefficients[0] - half, -coefficients[0] + half))


def test_the_frontier_has_the_runs_that_no_cheaper_one_beats() -> None:
    runs = [
        ScalingRun(1e5, 1e6, 4.0),
        ScalingRun(1e5, 4e6, 3.6),
        ScalingRun(4e5, 1e6, 3.7),
        ScalingRun(4e5, 4e6, 3.2),
    ]
    assert [run.loss for run in frontier(runs)] == [4.0, 3.6, 3.2]
    axes = kaplan_exponents(runs)
    assert set(axes) == {"compute"}  # two sizes and two lengths are no line
    assert axes["compute"].n_runs == 3


def test_the_operations_of_a_run_count_where_they_are_known() -> None:
    assert ScalingRun(1e6, 1e7, 3.0).compute == 6e13
    assert ScalingRun(1e6, 1e7, 3.0, flops=7e13).compute == 7e13


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(1e5, d) for d in (1e6, 2e6, 4e6, 8e6, 1.6e7, 3e7)], "6 runs of 1 sizes and 6 numbers of tokens"),
        ([(n, d) for n in (1e5, 2e5) for d in (1e6, 2e6, 4e6)], "6 runs of 2 sizes"),
        ([(1e5, 1e6), (2e5, 2e6), (4e5, 4e6)], "3 runs of 3 sizes and 3"),
    ],
)
def test_too_few_runs_are_refused_with_the_number_that_it_takes(
    points: list[tuple[float, float]], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        fit_law(runs_of(PLANTED, points))
    assert f"it takes {MIN_RUNS} runs at least, of 3 sizes and 3 numbers of tokens" in refusal.value.hint


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, -1.0])
def test_a_run_that_diverged_is_refused_by_its_size(loss: float) -> None:
    runs = [*runs_of(PLANTED, SMALL), ScalingRun(5e6, 1e7, loss)]
    with pytest.raises(UserError, match="a run of 5,000,000 parameters and 10,000,000 tokens has the loss"):
        check_runs(runs)
