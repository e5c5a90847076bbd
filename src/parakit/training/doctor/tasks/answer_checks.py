"""Checks on what examples are answered with: classes and tags within the head, scores of a size that can be
learned, texts that mean alike.

Each function takes what it looks at and returns the fault in words, or None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parakit.model.config import ClassifierConfig
from parakit.tokens.batches.batch import LabelledBatch, TextPairBatch
from parakit.training.doctor.gradients import few

LARGEST_SCORE = 10.0  # root mean square: an output layer that starts near 0 takes long to get further
MOST_EQUAL_SHARE = 0.5  # of the pairs whose two texts are one


def head_differs(classes: ClassifierConfig, kind: str) -> str | None:
    """A head that is made for another task."""
    level = "token" if kind == "tag" else "sequence"
    if classes.level != level:
        return f"the head labels each {classes.level}, and {kind} labels each {level}"
    if classes.regression != (kind == "regress"):
        given = "a score" if classes.regression else "a choice among labels"
        return f"the head gives {given}, which {kind} does not learn"
    return None


def labels_differ(classes: ClassifierConfig, labels: Sequence[str]) -> str | None:
    """A head whose labels are not the data's, one by one."""
    if not labels or tuple(labels) == classes.labels:
        return None
    for number, (ours, theirs) in enumerate(zip(classes.labels, labels, strict=False)):
        if ours != theirs:
            return f"label {number} is {ours!r} to the head and {theirs!r} in the data"
    return f"the head has {len(classes.labels)} labels, the data {len(labels)}"


def labels_outside(batches: Sequence[LabelledBatch], n_labels: int, labels: Sequence[str] = ()) -> str | None:
    """Labels that the head has no output for."""
    found = _labels(batches)
    wrong = found[(found < 0) | (found >= n_labels)]
    if not len(wrong):
        return None
    label = int(wrong[0])
    name = f" ({labels[label]!r})" if 0 <= label < len(labels) else ""
    return f"label {label}{name} occurs, and the head has {n_labels} labels, 0 to {n_labels - 1}"


def labels_absent(batches: Sequence[LabelledBatch], classes: ClassifierConfig) -> str | None:
    """Labels without a single example: they are never learned."""
    seen = set(np.unique(_labels(batches)).tolist())
    absent = [repr(name) for number, name in enumerate(classes.labels) if number not in seen]
    return f"no example has the label {few(absent)}" if absent else None


def one_label(batches: Sequence[LabelledBatch]) -> str | None:
    """Nothing to tell apart."""
    seen = np.unique(_labels(batches))
    return f"label {seen[0]} is the only one that occurs" if len(seen) == 1 else None


def _labels(batches: Sequence[LabelledBatch]) -> np.ndarray:
    """Every label that counts."""
    return np.concatenate([b.labels if b.loss_mask is None else b.labels[b.loss_mask] for b in batches])


def scores_unfit(batches: Sequence[LabelledBatch]) -> str | None:
    """Scores that are no numbers, or all the same."""
    scores = np.concatenate([batch.labels for batch in batches]).astype(np.float64)
    if not np.isfinite(scores).all():
        return f"{int((~np.isfinite(scores)).sum())} scores are no numbers"
    return f"every score is {scores[0]:g}" if (scores == scores[0]).all() else None


def scores_unscaled(batches: Sequence[LabelledBatch]) -> str | None:
    """Scores far from where an output begins."""
    scores = np.concatenate([batch.labels for batch in batches]).astype(np.float64)
    size = float(np.sqrt(np.mean(scores**2)))
    if size <= LARGEST_SCORE:
        return None
    return f"scores are {scores.mean():.4g} on average, give or take {scores.std():.4g}; outputs begin near 0"


def texts_equal(batches: Sequence[TextPairBatch]) -> str | None:
    """Pairs that are one text twice: nothing is learned from finding it again."""
    same = n = 0
    for batch in batches:
        for row in range(len(batch.first_ids)):
            n += 1
            same += np.array_equal(
                batch.first_ids[row][batch.first_mask[row]], batch.second_ids[row][batch.second_mask[row]]
            )
    return f"in {same} of {n} pairs both texts are the same" if same > MOST_EQUAL_SHARE * n else None


def texts_empty(batches: Sequence[TextPairBatch]) -> str | None:
    """Texts without a token."""
    n = sum(int((~mask.any(axis=1)).sum()) for b in batches for mask in (b.first_mask, b.second_mask))
    return f"{n} texts have no token" if n else None


def no_negatives(micro_batch_size: int) -> str | None:
    """A micro-batch of one pair has no wrong answer: its loss is zero."""
    return (
        None
        if micro_batch_size > 1
        else f"micro_batch_size = {micro_batch_size} leaves no other pair to be told from"
    )
