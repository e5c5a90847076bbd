"""Near duplicates among many short texts: candidates by MinHash, checked exactly, clustered, one of each cluster kept.

Of a cluster the first text stays. A chain of similar pairs may lead far from it, so a text is left out only where it is a
version of one that stays, or a version of such a version: two edits of one original are found, whichever comes first.
Memory: about 40 bytes a text; the rest is in files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from parakit.data.duplicates.signatures import ROWS, Signatures, SignatureWriter, n_bands

WITH_EARLIER = 7  # texts of a bucket that each is compared with, and the first of the bucket
MAX_KEPT = (
    64  # texts that may stay of a cluster before its rest does, and versions that others are compared with
)
_PAIRS_AT_ONCE = 16_384
_MIN_AGREEMENTS = 0.4  # of those expected at the wished similarity; fewer are not checked exactly


class NearDuplicateFinder:
    """`add` every text, then `finish`. `folder` must exist and takes about 1 kB a text, and 4 bytes a word."""

    def __init__(self, folder: Path, similarity: float) -> None:
        self.folder, self.similarity = folder, similarity
        self._writer = SignatureWriter(folder, n_bands(similarity))

    def add(self, text: str) -> None:
        """Take the next text."""
        self._writer.add(text)

    def finish(self) -> np.ndarray:
        """For each text the number of the one that stays for it, (n,) int64: its own where it stays."""
        self._writer.close()
        signatures = Signatures([self.folder], self._writer.bands)
        return choose_kept(signatures, clusters(signatures, self.similarity), self.similarity)


def clusters(signatures: Signatures, similarity: float) -> np.ndarray:
    """For each text the first text of its cluster: texts linked by similar pairs, (n,) int64."""
    parent = np.arange(signatures.n)
    for band in range(signatures.bands):
        join(parent, signatures, band_candidates(signatures, band, similarity), similarity)
    return roots(parent)


def join(
    parent: np.ndarray, signatures: Signatures, candidates: Iterable[tuple[int, int]], similarity: float
) -> None:
    """Union the clusters of every candidate pair that is similar (union-find with path halving)."""
    for one, other in candidates:
        a, b = root(parent, one), root(parent, other)
        if a != b and signatures.similarity(one, other) >= similarity:
            parent[max(a, b)] = min(a, b)


def band_candidates(signatures: Signatures, band: int, similarity: float) -> Iterator[tuple[int, int]]:
    """Pairs of texts that share the key of this band, and enough of their sketches to be worth a check."""
    keys = signatures.band(band)
    used = np.flatnonzero(signatures.sizes > 0)
    order = used[np.argsort(keys[used], kind="stable")]
    keys = keys[order]
    new = np.r_[True, keys[1:] != keys[:-1]] if len(keys) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
    least = max(ROWS, int(_MIN_AGREEMENTS * _expected_agreements(similarity, ROWS * signatures.bands)))
    for back in (0, *range(1, WITH_EARLIER + 1)):
        at = np.arange(len(keys))
        earlier = at - back if back else first
        pair = (earlier > first) if back else (earlier < at)
        at, earlier = at[pair & (earlier >= 0)], earlier[pair & (earlier >= 0)]
        for start in range(0, len(at), _PAIRS_AT_ONCE):
            one, other = order[earlier[start:][:_PAIRS_AT_ONCE]], order[at[start:][:_PAIRS_AT_ONCE]]
            enough = signatures.agreements(one, other) >= least
            yield from zip(one[enough].tolist(), other[enough].tolist(), strict=True)


def choose_kept(
    signatures: Signatures, cluster: np.ndarray, similarity: float, first: int = 0, end: int | None = None
) -> np.ndarray:
    """For each text the one that stays for it: the first of its cluster, where it resembles that or one that does;
    of those that remain again the first, and so on. Only clusters from `first` to before `end` are looked at.
    """
    kept_for = np.arange(signatures.n)
    members: dict[int, list[int]] = {}
    chosen = np.bincount(cluster, minlength=signatures.n)[cluster] > 1
    chosen &= (cluster >= first) & (cluster < (signatures.n if end is None else end))
    for text in np.flatnonzero(chosen).tolist():
        members.setdefault(int(cluster[text]), []).append(text)
    for remaining in members.values():
        for _ in range(MAX_KEPT):
            if not remaining:
                break
            kept, versions = remaining[0], [remaining[0]]
            for _ in range(2):  # versions of it, then versions of these
                near: list[int] = []
                far: list[int] = []
                for text in remaining:
                    similar = any(signatures.similarity(one, text) >= similarity for one in versions)
                    (near if text == kept or similar else far).append(text)
                kept_for[near] = kept
                versions, remaining = near[1 : MAX_KEPT + 1], far
    return kept_for


def root(parent: np.ndarray, i: int) -> int:
    """The root of `i`, halving the path to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def roots(parent: np.ndarray) -> np.ndarray:
    """The root of every element."""
    while True:
        above = parent[parent]
        if np.array_equal(above, parent):
            return parent
        parent = above


def _expected_agreements(similarity: float, n: int) -> float:
    """Equal low bytes among `n` least hashes of two texts of this similarity, where single words differ."""
    equal = (2 * similarity / (1 + similarity)) ** 2.5
    jaccard = equal / (2 - equal)
    return n * (jaccard + (1 - jaccard) / 256)
