"""Measures of a ranking of documents, of one question: recall, normalized discounted cumulative gain, reciprocal rank.

nDCG is that of Järvelin and Kekäläinen 2002 with the gain of a document's grade, as trec_eval computes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from parakit.assistants.retrieval.search import Hit


def ranked_sources(hits: Sequence[Hit]) -> list[str]:
    """Documents in the order of their best passages."""
    return list(dict.fromkeys(hit.passage.source for hit in hits))


def recall(ranking: Sequence[str], relevant: Mapping[str, float], k: int) -> float:
    """The share of the relevant documents among the first `k`."""
    return sum(source in relevant for source in ranking[:k]) / len(relevant)


def reciprocal_rank(ranking: Sequence[str], relevant: Mapping[str, float]) -> float:
    """1 / the rank of the first relevant document; 0 where there is none."""
    return next((1 / rank for rank, source in enumerate(ranking, 1) if source in relevant), 0.0)


def ndcg(ranking: Sequence[str], relevant: Mapping[str, float], k: int) -> float:
    """The gain of the first `k`, each divided by log2(rank + 1), as a share of the best ranking's."""
    gains = [relevant.get(source, 0.0) for source in ranking[:k]]
    best = sorted(relevant.values(), reverse=True)[:k]
    return _discounted(gains) / _discounted(best)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
