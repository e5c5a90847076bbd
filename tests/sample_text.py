"""Sentences to read, the same on every machine."""

from __future__ import annotations

from parakit.common.seeds import rng

WORDS = [
    "the",
    "a",
    "small",
    "old",
    "red",
    "bird",
    "tree",
    "house",
    "river",
    "sees",
    "likes",
    "finds",
    "near",
    "under",
    "and",
    "again",
]


def sentences(seed: int, n: int) -> str:
    """Some text that is the same on every machine."""
    random = rng(seed, "sentences")
    return "\n\n".join(" ".join(random.choice(WORDS, 9)) + "." for _ in range(n))
