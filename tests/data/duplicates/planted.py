"""Texts with planted near duplicates: versions of a text in which single words were exchanged, put in or taken out."""

from __future__ import annotations

import itertools
import random

VOCABULARY = [f"w{i}" for i in range(20_000)]
_WEIGHTS = list(
    itertools.accumulate(1 / (i + 3) for i in range(20_000))
)  # as frequent as words of a language
FOOTER = " ".join(f"footer{i}" for i in range(40))


def random_words(rng: random.Random, n: int) -> list[str]:
    return rng.choices(VOCABULARY, cum_weights=_WEIGHTS, k=n)


def edited(words: list[str], share: float, rng: random.Random) -> list[str]:
    result = []
    for word in words:
        kind = rng.randrange(3) if rng.random() < share else -1
        if kind != 0:  # 0: taken out
            result.append(rng.choice(VOCABULARY) if kind == 1 else word)
        if kind == 2:
            result.append(rng.choice(VOCABULARY))
    return result


def planted_texts(n: int, low: float, high: float, seed: int = 0) -> tuple[list[str], list[int]]:
    """At least `n` texts of 80 to 160 words, and for each the number of its original. An eighth have versions, edited in
    a share from `low` to `high` of their words; every other text ends with the same footer.
    """
    rng = random.Random(seed)
    texts: list[tuple[str, int]] = []
    while len(texts) < n:
        words, original = random_words(rng, rng.randint(80, 160)), len(texts)
        for version in range(rng.choice([1, 1, 1, 1, 1, 1, 1, 4])):
            mine = edited(words, rng.uniform(low, high), rng) if version else words
            texts.append((" ".join([*mine, FOOTER] if original % 2 else mine), original))
    rng.shuffle(texts)
    return [text for text, _ in texts], [original for _, original in texts]
