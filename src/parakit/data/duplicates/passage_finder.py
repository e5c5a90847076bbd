"""Passages that occur more than once, within a text or in several, found exactly (the substring removal of Lee et al. 2022).

Every run of `n` words (a window) gets a 64-bit hash; equal hashes meet by sorting, in files that are split by hash so that
each fits into memory. A window that occurred before is repeated, and the words of repeated windows are taken out, so a
passage of `n` words or more that was there before is always found, and the first occurrence of its words always stays.
Two windows are equal where their words are, whatever the white space between them. Where a hash is met twice, the words'
own hashes are compared too, so text that occurs once is never taken. Disk: 24 bytes a word; memory: that of one file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parakit.common.files import write_array
from parakit.data.duplicates.shingles import spaced_words, window_hashes

PARTS = 64
_BUFFER = 1 << 20  # words kept before they are written
_SORTED_AT_ONCE = 1 << 23  # windows; a larger file is sorted in several passes over ranges of hashes
_VERIFIED_AT_ONCE = 1 << 16


class PassageFinder:
    """`add` every text, then `finish`; `repeated` gives the passages of a text. `folder` must exist."""

    def __init__(self, folder: Path, n_words: int) -> None:
        self.folder, self.n_words = folder, n_words
        self._first: list[int] = [0]  # word of each text, and the number of all words
        self._waiting: list[np.ndarray] = []
        self._n_waiting = 0
        self._words: list[np.ndarray] = []
        for name in ("words.bin", *map(_part_name, range(PARTS))):
            (folder / name).write_bytes(b"")

    def add(self, text: str) -> None:
        """Take the next text."""
        words, _ = spaced_words(text)
        self._words.append(words)
        start = self._first[-1]
        self._first.append(start + len(words))
        hashes = window_hashes(words, self.n_words)
        self._waiting.append(np.stack([hashes, start + np.arange(len(hashes), dtype=np.uint64)], axis=1))
        self._n_waiting += len(words)
        if self._n_waiting >= _BUFFER:
            self._write()

    def finish(self) -> None:
        """Find the repeated windows of all texts."""
        self._write()
        self._firsts = np.array(self._first, np.int64)
        self._all_words = _mapped(self.folder / "words.bin", np.uint64)
        removed = np.lib.format.open_memmap(
            self.folder / "removed.npy", "w+", np.bool_, (max(1, self._first[-1]),)
        )
        for part in range(PARTS):
            path = self.folder / _part_name(part)
            for place, first in _repeated(path, self._all_words, self.n_words):
                _mark(removed, place, first, self.n_words)
            path.unlink()
        self._removed = removed

    def repeated(self, index: int) -> np.ndarray:
        """The first and last word (exclusive) of every passage of text `index` to take out, (n, 2) int64."""
        start, end = self._firsts[index : index + 2].tolist()
        changes = np.diff(self._removed[start:end].astype(np.int8), prepend=0, append=0)
        return np.stack([np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)], axis=1)

    def _write(self) -> None:
        if not self._words:
            return
        self._append("words.bin", np.concatenate(self._words))
        rows = np.concatenate(self._waiting)
        self._words, self._waiting, self._n_waiting = [], [], 0
        part = (rows[:, 0] >> np.uint64(58)).astype(np.uint8)
        rows = rows[np.argsort(part, kind="stable")]
        ends = np.cumsum(np.bincount(part, minlength=PARTS))
        for k in range(PARTS):
            self._append(_part_name(k), rows[(ends[k - 1] if k else 0) : ends[k]])

    def _append(self, name: str, array: np.ndarray) -> None:
        with open(self.folder / name, "ab") as file:
            write_array(file, array)


def without_passages(text: str, passages: np.ndarray) -> str:
    """`text` without passages of words (`PassageFinder.repeated`); the white space before each stays, that after it goes."""
    if not len(passages):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    _, starts = spaced_words(text)
    kept, place = [], 0
    for first, last in passages.tolist():
        kept.append(raw[place : starts[first]])
        place = int(starts[last])
    kept.append(raw[place:])
    return b"".join(kept).decode("utf-8", "surrogatepass")


def _part_name(part: int) -> str:
    return f"windows-{part:02d}.bin"


def _repeated(path: Path, words: np.ndarray, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of one file that occurred before: where each begins, and where its first occurrence does."""
    rows = _mapped(path, np.uint64).reshape(-1, 2)
    found = []
    n_ranges = -(-len(rows) // _SORTED_AT_ONCE)
    for k in range(n_ranges):
        some = rows if n_ranges == 1 else rows[rows[:, 0] % np.uint64(n_ranges) == k]
        order = np.argsort(some[:, 0], kind="stable")  # stable: earlier places come first
        hashes, places = some[order, 0], some[order, 1].astype(np.int64)
        again = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        new = np.r_[True, hashes[1:] != hashes[:-1]]
        leader = np.maximum.accumulate(np.where(new, np.arange(len(hashes)), 0))
        place, first = places[again], places[leader[again]]
        for start in range(0, len(place), _VERIFIED_AT_ONCE):
            one, other = place[start:][:_VERIFIED_AT_ONCE], first[start:][:_VERIFIED_AT_ONCE]
            equal = np.ones(len(one), bool)
            for offset in range(n):
                equal &= words[one + offset] == words[other + offset]
            found.append((one[equal], other[equal]))
    return found


def _mark(removed: np.ndarray, places: np.ndarray, firsts: np.ndarray, n: int) -> None:
    """Mark the words of repeated windows; of one that overlaps its first occurrence, those behind that."""
    begin = np.maximum(places, firsts + n)
    for offset in range(n):
        at = begin + offset
        removed[at[at < places + n]] = True


def _mapped(path: Path, dtype: type) -> np.ndarray:
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
