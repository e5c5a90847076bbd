"""Mixtures of several sources in given proportions: how many rows of each, and which ones.

A mixture has as many rows as its sources together, so the length of an epoch stays. A source with more rows than its part
loses some, drawn from the seed; one with fewer repeats all its rows equally often, and some, drawn, once more. Every part
is exact to within one row (largest remainders, Hamilton's method of apportionment).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def source_caps(sizes: Mapping[str, int], max_share: float) -> dict[str, float]:
    """For each source that is over `max_share` of the whole, the part of it that stays, so that none is; the others
    stay whole. `UserError` where the sources are too few for it.
    """
    if max_share * len(sizes) < 1:
        raise UserError(
            f"max_source_share = {max_share:g} cannot hold with {len(sizes)} sources: one of them is larger",
            f"set max_source_share to {math.ceil(100 / max(1, len(sizes))) / 100:g}, or give more sources",
        )
    by_size = sorted(sizes, key=lambda name: (-sizes[name], name))
    rest = sum(sizes.values())
    for n_over, name in enumerate(by_size):
        limit = rest * max_share / (1 - n_over * max_share)  # of the n_over largest, which are cut to it
        if sizes[name] <= limit * (1 + 1e-9):  # n sources of 1 / n each fit exactly, but for rounding
            return {over: limit / sizes[over] for over in by_size[:n_over]}
        rest -= sizes[name]
    raise AssertionError("the smallest of enough sources is never too large")
