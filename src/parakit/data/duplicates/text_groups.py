"""Near-duplicates among texts: versions of one document that differ in some words.

The resemblance of two texts is the share of their shingles that both have (Broder 1997), here of runs of 12 bytes after
case and white space are evened out. It is estimated from a one-permutation MinHash (Li, Owen & Zhang 2012): the smallest
hash of each of 64 ranges, 512 bytes a text. Texts that agree in three ranges of one of 21 bands are compared, and those
that resemble each other by half or more form a group. Short texts are compared exactly elsewhere: too little of them is
their own. Not found: a text that is a part of a much longer one.
"""

from __future__ import annotations

import tempfile
import weakref
from array import array
from pathlib import Path

import numpy as np

from parakit.data.duplicates.near_duplicate_finder import root

RANGES, ROWS = 64, 3
MIN_RESEMBLANCE = 0.5
MIN_SHINGLES = 200  # fewer: the words of a template outweigh those of the text
MAX_GROUP_SHARE, MAX_VERSIONS = 0.1, 5  # a larger group is of one template, not of one document

_SHINGLE = 12  # bytes
_SAMPLED = 32  # hashes looked at for each range
_EMPTY = np.uint64(2**64 - 1)
_PRIME = 0x9E3779B97F4A7C15
_FACTOR, _FACTOR_2, _FACTOR_4 = (np.uint64(_PRIME**k % 2**64) for k in (1, 2, 4))
_MIX = np.uint64(0xD6E8FEB86659FD93)


class Sketch:
    """The resemblance sketch of one text, which may come in pieces."""

    __slots__ = ("least", "n_shingles")

    def __init__(self) -> None:
        self.least = np.full(RANGES, _EMPTY)
        self.n_shingles = 0

    def add(self, text: str) -> None:
        """Take in a piece of the text."""
        hashes = _shingle_hashes(text)
        self.n_shingles += len(hashes)
        share = min(1.0, RANGES * _SAMPLED / max(1, len(hashes)))
        if share < 1:  # the least of each range are among the small ones
            low = hashes & np.uint64(2**58 - 1)
            hashes = hashes[low < np.uint64(int(share * 2**58))]
        hashes.sort()
        ranges, first = np.unique(hashes >> np.uint64(58), return_index=True)
        places = ranges.astype(np.int64)
        self.least[places] = np.minimum(self.least[places], hashes[first])


def resemblance(one: np.ndarray, other: np.ndarray) -> float:
    """The estimated share of shingles that both texts have, of those that either has, from their least hashes (RANGES,)."""
    used = (one != _EMPTY) | (other != _EMPTY)
    return float((one == other)[used].mean()) if used.any() else 0.0


class SketchFile:
    """The sketches of the texts of a corpus, 512 bytes each in a temporary file in `folder` that nothing else sees."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the sketches are needed
        self._close = weakref.finalize(self, self._file.close)
        self._last: Sketch | None = None
        self._n_shingles = array("q")

    def begin(self) -> None:
        """The next text."""
        self._flush()
        self._last = Sketch()

    def add(self, text: str) -> None:
        """Take in a piece of the last text."""
        assert self._last is not None, "no text has begun"
        self._last.add(text)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """The least hashes of all texts, (n, RANGES) uint64 on disk, and their shingles, (n,). None is added later."""
        self._flush()
        self._file.flush()
        n_shingles = np.frombuffer(self._n_shingles, np.int64)
        shape = (len(n_shingles), RANGES)
        least = (
            np.memmap(self._file, np.uint64, "r", shape=shape)
            if len(n_shingles)
            else np.zeros(shape, np.uint64)
        )
        self._close()  # the map stays
        return least, n_shingles

    def _flush(self) -> None:
        if self._last is not None:
            self._file.write(self._last.least.tobytes())
            self._n_shingles.append(self._last.n_shingles)
            self._last = None


def near_duplicate_groups(least: np.ndarray, n_shingles: np.ndarray) -> tuple[np.ndarray, int]:
    """For each text the index of the first text of its group, (n,) int64, and the number of texts that only share a
    template with more than a tenth of all: these are groups of their own. The sketches are those of `SketchFile.read`.
    """
    n = len(n_shingles)
    parent = np.arange(n)
    long = np.flatnonzero(n_shingles >= MIN_SHINGLES)
    for band in range(0, RANGES - ROWS + 1, ROWS) if len(long) > 1 else ():
        rows = least[long, band : band + ROWS]
        filled = (rows != _EMPTY).any(1)
        long_of_band = long[filled]
        _, first, bucket = np.unique(_mixed(rows[filled]), return_index=True, return_inverse=True)
        leaders = first[bucket]
        for k in np.flatnonzero(leaders != np.arange(len(leaders))):
            leader, text = int(long_of_band[leaders[k]]), int(long_of_band[k])
            one, other = root(parent, leader), root(parent, text)
            if one != other and resemblance(least[leader], least[text]) >= MIN_RESEMBLANCE:
                parent[max(one, other)] = min(one, other)
    groups = np.array([root(parent, i) for i in range(n)], np.int64)
    sizes = np.bincount(groups, minlength=n)
    templated = sizes[groups] > max(MAX_VERSIONS, MAX_GROUP_SHARE * n)
    groups[templated] = np.flatnonzero(templated)
    return groups, int(templated.sum())


def _mixed(rows: np.ndarray) -> np.ndarray:
    """One number (n,) for each row (n, ROWS) of hashes; two rows that share one differ by their resemblance."""
    found = np.zeros(len(rows), np.uint64)
    with np.errstate(over="ignore"):
        for column in rows.T:
            found = (found ^ column) * _MIX
            found ^= found >> np.uint64(29)
    return found


def _shingle_hashes(text: str) -> np.ndarray:
    """A hash for each run of `_SHINGLE` bytes, uint64: a polynomial over the bytes, made by doubling, and mixed."""
    raw = " ".join(text.lower().split()).encode("utf-8", "surrogatepass")
    codes = np.frombuffer(raw, np.uint8).astype(np.uint64)
    if len(codes) < _SHINGLE:
        return np.zeros(0, np.uint64)
    with np.errstate(over="ignore"):
        two = codes[:-1] * _FACTOR + codes[1:]
        four = two[:-2] * _FACTOR_2 + two[2:]
        eight = four[:-4] * _FACTOR_4 + four[4:]
        hashes = eight[:-4] * _FACTOR_4 + four[8:]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIX
        hashes ^= hashes >> np.uint64(29)
    return hashes
