"""Whether a text's own partner is the nearest of all: ranks, from which accuracy at 1 and the mean reciprocal rank
follow.

Shapes: N texts, M candidates, D width.
"""

from __future__ import annotations

import numpy as np

ROWS_AT_ONCE = 1024  # similarities are (rows, M)


def retrieval_ranks(vectors: np.ndarray, candidates: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The rank, from 1 up, of `candidates[partner[i]]` for each of `vectors` (N, D) by inner product.

    Candidates as near as the partner stand before it: vectors that are all alike find nothing.
    """
    found = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        similar = vectors[part] @ candidates.T  # (rows, M)
        own = np.take_along_axis(similar, partner[part, None], axis=1)
        found[part] = (similar >= own).sum(1)
    return found
