"""Classification metrics from a confusion matrix: accuracy, F1, Matthews' correlation.

A figure that is 0 / 0 (a label that is never predicted, a single class) is 0, as in scikit-learn. Bootstrap intervals
resample items, which is one multinomial draw of the matrix's cells.

Shapes: L labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np

from parakit.common.seeds import rng
from parakit.evaluation.intervals import CONFIDENCE, N_RESAMPLES, Estimate, percentiles, wilson_interval

Average = Literal["binary", "macro", "micro"]


def confusion(
    predictions: Sequence[Hashable], labels: Sequence[Hashable], names: Sequence[Hashable] | None = None
) -> np.ndarray:
    """How often each label (row) was predicted as each (column): (L, L) int64, in the order of `names`.

    Without `names`, those that occur, sorted.
    """
    assert len(predictions) == len(labels), f"{len(predictions)} predictions for {len(labels)} labels"
    names = sorted({*predictions, *labels}) if names is None else names  # type: ignore[type-var]
    index = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(index), len(index)), np.int64)
    np.add.at(counts, ([index[one] for one in labels], [index[one] for one in predictions]), 1)
    return counts


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of correct predictions: counts (..., L, L) -> (...)."""
    return _share(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def f1(counts: np.ndarray, average: Average = "macro", positive: int = 1) -> np.ndarray:
    """2 TP / (2 TP + FP + FN): of the label `positive` (binary), of each label and averaged over those that occur
    in labels or predictions (macro), or with all labels' counts added up (micro). counts (..., L, L) -> (...).
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)  # (..., L)
    named = counts.sum(-1) + counts.sum(-2)  # 2 TP + FP + FN
    if average == "binary":
        return _share(2 * right[..., positive], named[..., positive])
    if average == "micro":
        return _share(2 * right.sum(-1), named.sum(-1))
    return _share(_share(2 * right, named).sum(-1), (named > 0).sum(-1))


def label_set_f1(predicted: np.ndarray, truth: np.ndarray, average: str) -> float:
    """F1 of sets of labels, (N, L) bool each: with the counts of all labels added up ("micro"), or the mean over the
    labels that occur ("macro").
    """
    axis = None if average == "micro" else 0
    both, named = (predicted & truth).sum(axis), predicted.sum(axis) + truth.sum(axis)
    scores = _share(2 * both, named)
    return float(scores) if average == "micro" else float(_share(scores.sum(), (named > 0).sum()))


def matthews(counts: np.ndarray) -> np.ndarray:
    """Matthews' correlation for any number of labels (Gorodkin 2004): counts (..., L, L) -> (...)."""
    counts = counts.astype(np.float64)
    n = counts.sum((-2, -1))
    labelled, predicted = counts.sum(-1), counts.sum(-2)  # (..., L)
    together = np.trace(counts, axis1=-2, axis2=-1) * n - (labelled * predicted).sum(-1)
    spread = (n**2 - (labelled**2).sum(-1)) * (n**2 - (predicted**2).sum(-1))
    return _share(together, np.sqrt(spread))


def accuracy_figure(counts: np.ndarray) -> Estimate:
    """Accuracy with Wilson's interval."""
    n_right, n = int(np.trace(counts)), int(counts.sum())
    return Estimate(float(accuracy(counts)), *wilson_interval(n_right, n))


def bootstrap_counts(
    counts: np.ndarray,
    figure: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """A figure of a confusion matrix with its percentile bootstrap interval over items."""
    n = int(counts.sum())
    cells = counts.ravel() / n
    drawn = rng(seed, "confusion").multinomial(n, cells, size=n_resamples)
    low, high = percentiles(figure(drawn.reshape(-1, *counts.shape)), confidence)
    return Estimate(float(figure(counts)), low, high)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; 0 where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
