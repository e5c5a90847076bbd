"""Exact deduplication by digest, at 16 bytes per document.

Half a sha256 identifies a document: among 10^12 documents a collision has the probability 10^-15. Recent digests are in a
Python set; a full set becomes a sorted run, and runs of similar size are merged (a log-structured merge, O'Neil et al.
1996), so a look-up is one binary search in each of a few runs. Near-duplicates are not found.
"""

from __future__ import annotations

import numpy as np

RECENT = 65_536  # digests kept in a Python set, at about 100 bytes each


class DigestSet:
    """A growing set of sha256 digests."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._runs: list[np.ndarray] = []  # (2, n) of uint64, sorted; each over twice the next

    def __len__(self) -> int:
        return len(self._recent) + sum(run.shape[1] for run in self._runs)

    def __contains__(self, digest: str) -> bool:
        key = bytes.fromhex(digest[:32])
        if key in self._recent:
            return True
        if not self._runs:
            return False
        high, low = np.uint64(int(digest[:16], 16)), np.uint64(int(digest[16:32], 16))
        return any(_find(run, high, low) for run in self._runs)

    def add(self, digest: str) -> bool:
        """Add `digest`; False where the set has it already."""
        if digest in self:
            return False
        self._recent.add(bytes.fromhex(digest[:32]))
        if len(self._recent) >= RECENT:
            self._merge()
        return True

    def _merge(self) -> None:
        """Turn the recent digests into a sorted run, merged with earlier runs that are not much longer."""
        run = np.frombuffer(b"".join(self._recent), ">u8").astype(np.uint64).reshape(-1, 2).T
        self._recent.clear()
        while self._runs and self._runs[-1].shape[1] <= 2 * run.shape[1]:
            run = np.concatenate([self._runs.pop(), run], axis=1)
        self._runs.append(np.ascontiguousarray(run[:, np.lexsort((run[1], run[0]))]))


def _find(run: np.ndarray, high: np.uint64, low: np.uint64) -> bool:
    position = int(run[0].searchsorted(high))
    while position < run.shape[1] and run[0, position] == high:
        if run[1, position] == low:
            return True
        position += 1
    return False
