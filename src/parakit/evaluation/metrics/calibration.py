"""Calibration: whether a model is right as often as it is sure.

Shapes: N answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parakit.evaluation.intervals import N_RESAMPLES, Estimate, bootstrap

N_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers with a confidence in one of the equal parts of 0 to 1: their means and number; empty bins are left out."""

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int


def reliability(confidence: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS) -> list[ReliabilityBin]:
    """The reliability diagram (DeGroot & Fienberg 1983) of confidences (N,) in 0 to 1 and answers (N,) 0 or 1; bins are
    open below and closed above, but the first, which has 0, too.
    """
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    bins = []
    for i in range(n_bins):
        chosen = index == i
        if chosen.any():
            means = float(confidence[chosen].mean()), float(correct[chosen].mean())
            bins.append(ReliabilityBin(float(edges[i]), float(edges[i + 1]), *means, int(chosen.sum())))
    return bins


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS) -> float:
    """The mean gap of confidence and accuracy over bins, weighted by their answers (Naeini et al. 2015)."""
    bins = reliability(confidence, correct, n_bins)
    return sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / len(confidence)


def calibration_error(
    confidence: np.ndarray, correct: np.ndarray, *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Estimate:
    """The expected calibration error with its bootstrap interval over answers. Of few answers it is biased upwards: even a
    calibrated model's is above 0.
    """
    return bootstrap(
        lambda items: expected_calibration_error(confidence[items], correct[items]),
        len(confidence),
        seed=seed,
        n_resamples=n_resamples,
    )


def brier(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """The squared error of each confidence, (N,) (Brier 1950)."""
    return np.square(confidence - correct)
