"""Which texts of a batch of pairs are no negatives of one another, because they are equal or belong to equal ones.

Shapes: B pairs, at most K hard negatives each, N of them in all, U tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parakit.tokens.batches.batch import TextPairBatch


@dataclass(frozen=True)
class PairOverlap:
    """`same[i, j]`: pairs i and j share a text, so that the second text of j is no negative for the first of i. Of hard
    negatives, None where there are none: `negative_ids`, `negative_mask` (N, U), and `no_negative[i, n]`: text n belongs
    to the first text of pair i.
    """

    same: np.ndarray  # (B, B) bool
    negative_ids: np.ndarray | None = None
    negative_mask: np.ndarray | None = None
    no_negative: np.ndarray | None = None  # (B, N) bool

    def of_negatives(self) -> dict[str, np.ndarray]:
        """The fields about hard negatives, if there are any."""
        found = {name: getattr(self, name) for name in ("negative_ids", "negative_mask", "no_negative")}
        return {name: array for name, array in found.items() if array is not None}


def pair_overlap(batch: TextPairBatch) -> PairOverlap:
    """Compare the token ids of all texts of a batch."""
    numbers: dict[bytes, int] = {}

    def number(ids: np.ndarray, real_mask: np.ndarray) -> np.ndarray:
        """A number for every text; equal texts have equal numbers."""
        texts = [row[real].astype(np.int64).tobytes() for row, real in zip(ids, real_mask, strict=True)]
        return np.array([numbers.setdefault(text, len(numbers)) for text in texts])

    first, second = number(batch.first_ids, batch.first_mask), number(batch.second_ids, batch.second_mask)
    equal_first = first[:, None] == first
    same = equal_first | (second[:, None] == second) | (first[:, None] == second)
    if batch.negative_ids is None or batch.negative_mask is None:
        return PairOverlap(same)
    exists = batch.negative_mask.any(-1)  # (B, K)
    if not exists.any():
        return PairOverlap(same)
    ids, mask = batch.negative_ids[exists], batch.negative_mask[exists]
    negatives = number(ids, mask)
    of_equal = equal_first @ (second[:, None] == negatives)  # the second text of a pair with this first one
    return PairOverlap(same, ids, mask, of_equal | (first[:, None] == negatives))
