"""Pearson's and Spearman's correlation. With constant scores, where it is undefined, it is 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pearson(predictions: Sequence[float] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Pearson's linear correlation, within [-1, 1]."""
    x, y = np.asarray(predictions, np.float64), np.asarray(scores, np.float64)
    assert x.shape == y.shape, f"{x.shape} predictions for {y.shape} scores"
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = _normalize(x), _normalize(y)
    return float(np.clip(x @ y, -1.0, 1.0))


def spearman(predictions: Sequence[float] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation; tied values share the mean of their ranks."""
    return pearson(ranks(np.asarray(predictions)), ranks(np.asarray(scores)))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks (n,) from 1 up, ties at the mean of the ranks they cover."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((2 * last - counts + 1) / 2)[group]


def _normalize(values: np.ndarray) -> np.ndarray:
    """Mean 0 and norm 1; scaled first against overflow."""
    values = values - values.mean()
    values = values / np.abs(values).max()
    return values / np.sqrt(values @ values)
