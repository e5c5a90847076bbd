"""Ranks of a text's partner among all candidates, for accuracy at 1 and the mean reciprocal rank.

Shapes: N texts, M candidates, D width.
"""

from __future__ import annotations

import numpy as np

ROWS_AT_ONCE = 1024  # similarities are (rows, M)


def retrieval_ranks(vectors: np.ndarray, candidates: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The rank, from 1 up, of `candidates[partner[i]]` for each of `vectors` (N, D) by inner product.

    Ties rank before the partner: equal vectors retrieve nothing.
    """
    ranks = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        similarity = vectors[part] @ candidates.T  # (rows, M)
        partner_similarity = np.take_along_axis(similarity, partner[part, None], axis=1)
        ranks[part] = (similarity >= partner_similarity).sum(1)
    return ranks
