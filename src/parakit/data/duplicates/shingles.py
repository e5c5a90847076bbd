"""Words of many texts at once as 64-bit hashes, and hashes of runs of words (shingles, Broder 1997).

A word is a run of letters and digits in lower case, so that case, punctuation and white space do not count; a Chinese
character or Japanese kana is a word of its own. Bytes are hashed as polynomials in wrapping 64-bit arithmetic, whole
batches in a few array operations, and mixed (Stafford's variant 13 of the MurmurHash3 finalizer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 2**64)
_GRAM_FACTOR = np.uint64(0xD1342543DE82EF95)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

_LETTER = np.zeros(256, bool)
_LETTER[[c for c in range(128) if chr(c).isalnum()]] = True
_LETTER[128:] = True
_LATIN_LETTER = np.zeros(256, bool)
_LATIN_LETTER[[c for c in range(0x80, 0xC0) if chr(c).isalnum()]] = True
_SPACE = np.zeros(256, bool)
_SPACE[[c for c in range(128) if chr(c).isspace()]] = True


_BATCH_CHARS, _BATCH_ITEMS = 1 << 18, 4_096


def batches(items: Iterable[Item], n_chars: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Lists of items whose texts fit the processor's cache, as far as single texts do."""
    batch: list[Item] = []
    total = 0
    for item in items:
        batch.append(item)
        total += n_chars(item)
        if total >= _BATCH_CHARS or len(batch) >= _BATCH_ITEMS:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


class _Powers:
    """The powers of the factor and of its inverse, as many as the longest batch needed."""

    def __init__(self) -> None:
        self.up = self.down = np.ones(1, np.uint64)

    def get(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        if len(self.up) < n:
            size = max(n, 1 << 18)
            with np.errstate(over="ignore"):
                self.up, self.down = (
                    np.multiply.accumulate(np.r_[np.uint64(1), np.full(size - 1, factor, np.uint64)])
                    for factor in (_FACTOR, _INVERSE)
                )
        return self.up[:n], self.down[:n]


_POWERS = _Powers()


def word_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all words of `texts` in order, (n,) uint64, and the number of words of each text, int64."""
    raw = [text.lower().encode("utf-8", "surrogatepass") for text in texts]
    codes = np.frombuffer(b"\n".join(raw) + b"\n", np.uint8)
    letters, starts = _words(codes)
    ends = np.cumsum(np.array([len(one) + 1 for one in raw], np.int64))
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    return _hash_runs(codes, letters, starts), counts


def word_starts(text: str) -> tuple[bytes, np.ndarray]:
    """The UTF-8 bytes of `text`, and where each of its words begins, with their number at the end, (n + 1,) int64."""
    raw = text.encode("utf-8", "surrogatepass")
    _, starts = _words(np.frombuffer(raw + b"\n", np.uint8))
    return raw, np.append(starts, len(raw))


def spaced_words(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The words of `text` between white space, exactly as they are: hashes, (n,) uint64, and where each begins in the
    UTF-8 bytes, with the length of these at the end, (n + 1,) int64.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass") + b" ", np.uint8)
    letters = ~_SPACE[codes]
    first = letters.copy()
    first[1:] &= ~letters[:-1]
    starts = np.flatnonzero(first)
    return _hash_runs(codes, letters, starts), np.append(starts, len(codes) - 1)


def grams(words: np.ndarray, counts: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all runs of `n` words within each text, uint64, and their number for each text. A text of fewer
    words has one run, of all of them.
    """
    last = np.repeat(np.cumsum(counts), counts)  # where the text of each word ends
    place = np.arange(len(words))
    hashes = np.zeros(len(words), np.uint64)
    padded = np.append(words, np.zeros(n, np.uint64))
    with np.errstate(over="ignore"):
        for k in range(n):
            hashes *= _GRAM_FACTOR
            hashes += np.where(place + k < last, padded[k : k + len(words)], np.uint64(0))
    whole = (place + n <= last) | (place == last - np.repeat(counts, counts))
    return mix(hashes[whole]), np.where(counts > 0, np.maximum(counts - n + 1, 1), 0)


def window_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """The hashes of all runs of `n` words of one text, uint64, at a cost that does not depend on `n`."""
    if len(words) < n:
        return np.zeros(0, np.uint64)
    up, down = _POWERS.get(len(words))
    with np.errstate(over="ignore"):
        sums = np.cumsum(words * up)
        sums[n:] = sums[n:] - sums[:-n]
        return mix(sums[n - 1 :] * down[: len(words) - n + 1])


def mix(hashes: np.ndarray) -> np.ndarray:
    """Spread the differences of 64-bit values over all of their bits, in place."""
    with np.errstate(over="ignore"):
        hashes ^= hashes >> np.uint64(30)
        hashes *= _MIX_1
        hashes ^= hashes >> np.uint64(27)
        hashes *= _MIX_2
        hashes ^= hashes >> np.uint64(31)
    return hashes


def _words(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which bytes belong to words, and where each word begins."""
    letters = _LETTER[codes]
    punctuation = np.flatnonzero((codes[:-2] == 0xE2) & (codes[1:-1] >> 1 == 0x40))  # U+2000 to U+207F
    for k in range(3):
        letters[punctuation + k] = False
    latin = np.flatnonzero(
        codes[:-1] == 0xC2
    )  # U+0080 to U+00BF: the space that does not break, and «quotes»
    latin = latin[~_LATIN_LETTER[codes[latin + 1]]]
    letters[latin] = letters[latin + 1] = False
    first = letters.copy()
    first[1:] &= ~letters[:-1]
    first |= letters & (codes >= 0xE3) & (codes <= 0xE9)  # U+3000 to U+9FFF: no spaces between words
    return letters, np.flatnonzero(first)


def _hash_runs(codes: np.ndarray, letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A hash of the letters from each start to the next one."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    up, down = _POWERS.get(len(codes))
    with np.errstate(over="ignore"):
        values = codes.astype(np.uint64)
        values += np.uint64(1)
        values *= letters
        values *= up
        return mix(np.add.reduceat(values, starts) * down[starts])
