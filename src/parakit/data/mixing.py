"""Mixtures of several sources in given proportions: how many rows of each, and which ones.

A mixture has as many rows as its sources together, so the length of an epoch stays. A source with more rows than its part
loses some, drawn from the seed; one with fewer repeats all its rows equally often, and some, drawn, once more. Every part
is exact to within one row (largest remainders, Hamilton's method of apportionment).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import rng


def check_shares(shares: Sequence[float], sources: Sequence[str]) -> None:
    """`UserError` where `shares` are no proportions of `sources`: a wrong number of them, negative, not finite, all 0."""
    if len(shares) != len(sources):
        given = f"{len(shares)} share{'s' if len(shares) != 1 else ''} for {len(sources)} source"
        raise UserError(
            f"shares: {given}{'s' if len(sources) != 1 else ''} ({', '.join(sources) or 'none'})",
            "give one share for each file or folder, in their order",
        )
    for share, source in zip(shares, sources, strict=True):
        if not math.isfinite(share) or share < 0:
            raise UserError(
                f"shares: {share:g} for {source}",
                "a share is a number of at least 0; 3 and 1 mean three to one",
            )
    if not any(shares):
        raise UserError("shares: all of them are 0, so nothing would be taken", "give one source more than 0")


def allocate(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers that add up to `total` in the proportions of `shares`, each within one of its exact part."""
    exact = [Fraction(str(share)) for share in shares]
    parts = [total * share / sum(exact) for share in exact]
    counts = [math.floor(part) for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: (counts[i] - parts[i], i))  # largest first
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def repeats(source_of: np.ndarray, parts: Sequence[int], seed: int) -> np.ndarray:
    """How often the mixture has each row, (n,) int64. `source_of` (n,) is the source of each row, `parts` the number of
    rows of each source in the mixture; a source with a part above 0 has at least one row.
    """
    times = np.zeros(len(source_of), np.int64)
    for source, part in enumerate(parts):
        rows = np.flatnonzero(source_of == source)
        if part:
            whole, rest = divmod(part, len(rows))
            times[rows] = whole
            times[rng(seed, "shares", source).permutation(rows)[:rest]] += 1
    return times
