"""Fast seeded choices, and the keyed hash that decides what is held out.

A numpy generator is slow one call at a time, so `Random` draws in blocks. `is_held_out` depends on the combination
alone, so what the suites ask is the same for all seeds and sizes and never occurs in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TypeVar

from parakit.common.seeds import rng

Choice = TypeVar("Choice")
_BLOCK = 8192
_KEY = b"parakit primer: held out"


class Random:
    """A stream of random choices, a pure function of a seed and labels."""

    __slots__ = ("uniform",)

    def __init__(self, seed: int, *labels: str | int) -> None:
        generator = rng(seed, "primer", *labels)

        def stream() -> Iterator[float]:
            while True:
                yield from generator.random(_BLOCK).tolist()

        self.uniform = stream().__next__  # the next number in [0, 1)

    def below(self, limit: int) -> int:
        return int(self.uniform() * limit)

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.uniform() * len(choices))]

    def maybe(self, probability: float) -> bool:
        return self.uniform() < probability

    def pick_two(self, choices: Sequence[Choice]) -> tuple[Choice, Choice]:
        """Two different members, in random order."""
        first = int(self.uniform() * len(choices))
        second = int(self.uniform() * (len(choices) - 1))
        return choices[first], choices[second + (second >= first)]

    def shuffled(self, choices: Sequence[Choice]) -> list[Choice]:
        rest = list(choices)
        for last in range(len(rest) - 1, 0, -1):
            other = int(self.uniform() * (last + 1))
            rest[last], rest[other] = rest[other], rest[last]
        return rest

    def pick_weighted(self, choices: Sequence[Choice], cumulative: Sequence[float]) -> Choice:
        """`cumulative[i]` is the probability of all choices up to and including `i`; the last one is 1."""
        value = self.uniform()
        for choice, edge in zip(choices, cumulative, strict=True):
            if value < edge:
                return choice
        return choices[-1]


@cache
def is_held_out(percent: int, *combination: str) -> bool:
    """Whether a combination belongs to the suites, as `percent` of all do, and so never to training."""
    digest = hashlib.blake2b("\x1f".join(combination).encode(), key=_KEY, digest_size=8).digest()
    return int.from_bytes(digest, "little") % 100 < percent
