"""Confidence intervals, and paired comparisons of two models on the same items.

Shares have Wilson's score interval (Wilson 1927), which stays inside [0, 1] and has width at 0 and 100 %, where the normal
interval has none. Other figures have the percentile bootstrap over items (Efron 1979), seeded. Two models on the same
items are compared item by item, with a paired bootstrap of the difference: shares by the exact McNemar test (McNemar 1947),
other scores by a permutation of each item's two values (Fisher 1935, section 21).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev

import numpy as np

from parakit.common.seeds import rng

CONFIDENCE = 0.95
N_RESAMPLES = 1000
N_EXCHANGES, MAX_EXCHANGED = 10_000, 500
# 97.5 % quantiles of Student's t with 1 to 30 degrees of freedom
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    n: int,
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """`statistic` of all n items, as their indices (n,), with its percentile bootstrap interval."""
    generator = rng(seed, "bootstrap")
    drawn = [statistic(generator.integers(0, n, n)) for _ in range(n_resamples)]
    return Estimate(float(statistic(np.arange(n))), *percentiles(np.array(drawn), confidence))


def bootstrap_mean(
    values: np.ndarray, weights: np.ndarray | None = None, *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Estimate:
    """The mean of `values` (n,), or sum(values) / sum(weights), with its percentile bootstrap interval."""
    weights = np.ones(len(values)) if weights is None else weights

    def mean(items: np.ndarray) -> float:
        return float(values[items].sum() / max(weights[items].sum(), 1e-12))

    return bootstrap(mean, len(values), seed=seed, n_resamples=n_resamples)


def percentiles(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The central `confidence` of the values: (low, high)."""
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t (1908) with so many degrees of freedom, for 95 % intervals. Beyond 30 from the
    normal quantile (Abramowitz and Stegun 1964, 26.7.5), which is then exact to 1e-5.
    """
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def mean_interval(values: Sequence[float]) -> Estimate:
    """The mean of independent values, such as those of runs that differ by their seed, with the 95 % interval of the mean by
    Student's t; of one value, which shows no spread, the interval is all numbers.
    """
    if len(values) < 2:
        return Estimate(values[0], -math.inf, math.inf)
    middle = mean(values)
    half = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(middle, middle - half, middle + half)


def wilson_interval(n_correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval (low, high) of `n_correct` in `n`; (0, 1) for n = 0."""
    assert 0 <= n_correct <= n, f"{n_correct} of {n}"
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = n_correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # exactly 0 and 1 at the edges, without rounding
    return (0.0 if n_correct == 0 else centre - half), (1.0 if n_correct == n else centre + half)


def mcnemar_p_value(n_only_first: int, n_only_second: int) -> float:
    """Exact two-sided McNemar test: the probability of so uneven a split of the items that only one model has right."""
    n = n_only_first + n_only_second
    if n == 0:
        return 1.0
    fewer = min(n_only_first, n_only_second)
    # lgamma keeps the binomial coefficients of thousands of items finite
    tail = sum(math.exp(_log_choose(n, k) - n * math.log(2)) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


@dataclass(frozen=True)
class PairedDifference:
    """Second minus first, in share correct or another mean, on the same items."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def paired_difference(
    first: Sequence[bool] | np.ndarray,
    second: Sequence[bool] | np.ndarray,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compare two models' correctness on the same items in the same order.

    `low` and `high`: percentile bootstrap over items. `p_value`: exact McNemar.
    """
    assert len(first) == len(second), "paired results need the same items in the same order"
    assert len(first), "nothing to compare"
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n, n_first, n_second = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    # resampling n items of three kinds with replacement is a multinomial draw
    shares = np.array([n_first, n_second, n - n_first - n_second]) / n
    counts = rng(seed, "paired_difference").multinomial(n, shares, size=n_resamples)
    differences = (counts[:, 1] - counts[:, 0]) / n
    low, high = percentiles(differences, confidence)
    return PairedDifference((n_second - n_first) / n, low, high, mcnemar_p_value(n_first, n_second), n)


def paired_mean_difference(
    first: np.ndarray, second: np.ndarray, *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> PairedDifference:
    """Compare the means of two models' scores (n,) on the same items in the same order.

    `low` and `high`: percentile bootstrap over items. `p_value`: how often the mean is so far from 0 when each item's two
    values are exchanged at random.
    """
    assert len(first) == len(second), "paired results need the same items in the same order"
    by_item = np.asarray(second, float) - np.asarray(first, float)
    found = bootstrap_mean(by_item, seed=seed, n_resamples=n_resamples)
    return PairedDifference(found.value, found.low, found.high, exchange_p_value(by_item, seed), len(by_item))


def exchange_p_value(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided: the share of `N_EXCHANGES` random signs of the differences (n,), and of the signs that they have, whose sum is
    as far from 0. Of more than `MAX_EXCHANGED` that are not 0 the sum is normal with the same variance.
    """
    moved = differences[differences != 0]
    found, squares = abs(float(moved.sum())), float((moved**2).sum())
    if not len(moved):
        return 1.0
    if len(moved) > MAX_EXCHANGED:
        return math.erfc(found / math.sqrt(2 * squares))
    signs = rng(seed, "exchange").integers(0, 2, (N_EXCHANGES, len(moved)), dtype=np.int8)
    sums = np.abs((2.0 * signs - 1.0) @ moved)
    as_far = int((sums >= found * (1 - 1e-9)).sum())  # equal sums differ in their last bits
    return (as_far + 1) / (N_EXCHANGES + 1)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
