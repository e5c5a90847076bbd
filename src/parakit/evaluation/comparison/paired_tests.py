"""One paired test, the correction for many, and how many items a difference would need.

0/1 scores have the exact McNemar test, others a permutation of each item's two values (`intervals`). Many tests are
corrected by Holm's method (Holm 1979, with weights in its section 4), which bounds the chance of any wrong verdict among all
of them. The number of items is that of the normal approximation to McNemar's test (Connor 1987, Biometrics 43, equation 3),
and for other scores that of the paired z test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from parakit.evaluation.intervals import PairedDifference, paired_difference, paired_mean_difference


@dataclass(frozen=True)
class PairedTest:
    """Two models' scores on the same items: second minus first."""

    first: float
    second: float
    difference: PairedDifference
    is_binary: bool
    n_higher: int
    """Items on which the second has the higher score."""
    n_lower: int
    variance: float
    """Of an item's difference; of 0/1 scores the share of items on which the two disagree."""


def paired_test(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> PairedTest:
    """Compare two models' scores (n,) on the same items in the same order."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    is_binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    compare = paired_difference if is_binary else paired_mean_difference
    n_higher, n_lower = int((b > a).sum()), int((b < a).sum())
    variance = (n_higher + n_lower) / len(a) if is_binary else float(np.var(b - a))
    found = compare(a, b, seed=seed)
    return PairedTest(float(a.mean()), float(b.mean()), found, is_binary, n_higher, n_lower, variance)


def holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The p values corrected for their number: one below `level` is a verdict, and the chance of any wrong one is at most
    `level`. A test of twice the weight gets twice the share of it.
    """
    corrected = [1.0] * len(p_values)
    left, highest = math.fsum(weights), 0.0
    for index in sorted(range(len(p_values)), key=lambda i: p_values[i] / weights[i]):
        highest = max(highest, min(1.0, p_values[index] * left / weights[index]))
        corrected[index] = highest
        left -= weights[index]
    return corrected


def items_needed(test: PairedTest, difference: float, *, level: float, power: float) -> int | None:
    """On how many such items a two-sided test at `level` would detect a true `difference` with probability `power`. None where
    the two models' scores, other than 0/1, are equal on every item.
    """
    errors = _deviations(test, difference, level, power)
    return math.ceil((errors / difference) ** 2) if errors else None


def detectable_by_error(error: float, *, level: float, power: float) -> float:
    """The smallest true difference that is detected where its standard error is `error`."""
    return (NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)) * error


def detectable(test: PairedTest, *, level: float, power: float) -> float:
    """The smallest true difference that these items would detect; at most 1 for 0/1 scores."""
    root = math.sqrt(test.difference.n)
    if not test.is_binary:
        return detectable_by_error(math.sqrt(test.variance) / root, level=level, power=power)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if _deviations(test, middle, level, power) <= middle * root else (middle, high)
        )
    return high


def _deviations(test: PairedTest, difference: float, level: float, power: float) -> float:
    """z of the level times the deviation without a difference, and z of the power times the one with it."""
    if not test.is_binary:
        return detectable_by_error(math.sqrt(test.variance), level=level, power=power)
    of_level, of_power = NormalDist().inv_cdf(1 - level / 2), NormalDist().inv_cdf(power)
    disagree = max(test.variance, abs(difference))  # models that differ by so much disagree at least so often
    return of_level * math.sqrt(disagree) + of_power * math.sqrt(disagree - difference**2)
