"""Several replies to one input: the expected score of a choice among n of them, from N that were sampled.

Self-consistency takes the answer that most replies have (Wang et al. 2022); best of n takes the reply with the highest score
of a verifier (Cobbe et al. 2021); coverage is whether any reply is right, the bound of both. The expectation is over all
subsets of n of the N replies: in closed form for a verifier and for coverage, over seeded random subsets for votes.

Shapes: P items, N replies of each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from parakit.common.seeds import rng

N_SUBSETS = 200  # for votes


def vote_key(answer: str | None) -> str | None:
    """What two answers must share to be one vote: their words, without case and punctuation at the ends; None is no vote."""
    if answer is None:
        return None
    return " ".join(answer.casefold().split()).strip(" .,;:!?\"'*`") or None


def majority(keys: Sequence[str | None]) -> int:
    """The number of the first reply with the most frequent key; of equally frequent ones the one that comes first. Replies
    without an answer do not vote, unless there is no other.
    """
    counts = Counter(key for key in keys if key is not None)
    if not counts:
        return 0
    most = max(counts.values())
    return next(i for i, key in enumerate(keys) if key is not None and counts[key] == most)


def expected_vote(
    scores: np.ndarray, keys: Sequence[Sequence[str | None]], n: int, seed: int = 0
) -> np.ndarray:
    """Of each item the expected score (P,) of the majority's answer among n of its replies. `scores` (P, N)."""
    n_sampled = scores.shape[1]
    assert 1 <= n <= n_sampled, (n, n_sampled)
    found = np.zeros(len(scores))
    for item, (row, names) in enumerate(zip(scores, keys, strict=True)):
        if n in (1, n_sampled):
            found[item] = row.mean() if n == 1 else row[majority(names)]
            continue
        generator = rng(seed, f"votes {item} {n}")
        drawn = (generator.permutation(n_sampled)[:n] for _ in range(N_SUBSETS))
        found[item] = np.mean([row[subset[majority([names[i] for i in subset])]] for subset in drawn])
    return found


def expected_choice(scores: np.ndarray, by: np.ndarray, n: int) -> np.ndarray:
    """Of each item the expected score (P,) of the best of n by a verifier's scores `by` (P, N). Replies with equal verifier
    scores share their places.
    """
    n_sampled = scores.shape[1]
    assert 1 <= n <= n_sampled, (n, n_sampled)
    # the i-th lowest (from 0) is the best of comb(i, n - 1) of the subsets
    weights = np.array([math.comb(i, n - 1) for i in range(n_sampled)], float) / math.comb(n_sampled, n)
    found = np.zeros(len(scores))
    for item, (row, ranks) in enumerate(zip(scores, by, strict=True)):
        order = np.argsort(ranks, kind="stable")
        ordered, places = row[order], ranks[order]
        for value in np.unique(places):
            same = places == value
            found[item] += ordered[same].mean() * weights[same].sum()
    return found


def coverage(scores: np.ndarray, n: int) -> np.ndarray:
    """Of each item the expected best score (P,) among n replies: for 0/1 scores pass@n (Chen et al. 2021)."""
    return expected_choice(scores, scores, n)


def verifier_errors(scores: np.ndarray, by: np.ndarray) -> dict[str, float | int | None]:
    """Where a verifier fails, over replies that are right (1) or not. `ranked`: of the pairs of a right and a wrong reply to
    one item, the share that it ranks rightly (a tie is a half); `missed`: of the items with a right reply, the share on
    which its choice is wrong; `n_pairs`, `n_items`: of how many.
    """
    right = scores >= 1.0
    n_ranked, n_pairs, n_missed, n_items = 0.0, 0, 0, 0
    for row, ranks in zip(right, by, strict=True):
        good, bad = ranks[row], ranks[~row]
        if not len(good):
            continue
        n_items += 1
        best = ranks == ranks.max()
        n_missed += 1 - row[best].mean()
        if len(bad):
            n_pairs += len(good) * len(bad)
            n_ranked += (good[:, None] > bad).sum() + 0.5 * (good[:, None] == bad).sum()
    return {
        "ranked": float(n_ranked / n_pairs) if n_pairs else None,
        "missed": float(n_missed / n_items) if n_items else None,
        "n_pairs": n_pairs,
        "n_items": n_items,
    }
