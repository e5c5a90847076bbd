"""Search by vectors: usearch keeps those of all passages, by the passages' ids.

Up to `EXACT` passages every vector is compared. Beyond that usearch's graph is walked (Malkov and Yashunin 2016), which
finds nearly all of the nearest. Vectors that were computed wait in a database next to the index until the version with
them is complete, so an interrupted run computes none twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parakit.assistants.libraries import needs
from parakit.assistants.retrieval.encoders import PassageEncoder
from parakit.assistants.retrieval.store import PassageStore
from parakit.common.errors import CorruptArtifact
from parakit.common.progress import Bar

FILE = "vectors.usearch"
EXACT = 20_000
AT_ONCE = 256  # passages whose vectors are computed and written together
REBUILT = 0.25  # of the passages were removed since the graph was built: it is built again


class VectorCache:
    """Vectors by the digests of what they were computed from, on disk after each `put`."""

    def __init__(self, path: Path, encoder: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE IF NOT EXISTS vectors (digest BLOB, encoder TEXT, vector BLOB, PRIMARY KEY (digest, encoder));"
        )
        self._encoder = encoder

    def get(self, digest: bytes) -> np.ndarray | None:
        """A vector; None where it was not computed."""
        row = self._connection.execute(
            "SELECT vector FROM vectors WHERE digest = ? AND encoder = ?", (digest, self._encoder)
        ).fetchone()
        return np.frombuffer(row[0], np.float32) if row else None

    def put(self, digests: Sequence[bytes], vectors: np.ndarray) -> None:
        """Write vectors; they outlast the process."""
        rows = [
            (digest, self._encoder, vector.tobytes()) for digest, vector in zip(digests, vectors, strict=True)
        ]
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def build_vectors(
    folder: Path,
    store: PassageStore,
    encoder: PassageEncoder,
    cache: VectorCache,
    previous: Path | None,
    bar: Bar | None = None,
) -> int:
    """Write the vectors of all passages of `store` into `folder`; returns how many were computed. `previous`: the folder
    of the version before, with vectors of the same encoder.
    """
    ids = store.ids()
    index = _start(previous, ids, encoder.width)
    new = [one for one in ids if one not in index]
    n_computed = 0
    for part in _parts(store.searched(new)):
        found = [cache.get(digest) for _, digest, _ in part]
        missing = [i for i, vector in enumerate(found) if vector is None]
        if missing:
            vectors = encoder.documents([part[i][2] for i in missing])
            cache.put([part[i][1] for i in missing], vectors)
            for i, vector in zip(missing, vectors, strict=True):
                found[i] = vector
            n_computed += len(missing)
        keys = np.array([one[0] for one in part], np.uint64)
        index.add(keys, np.stack([vector for vector in found if vector is not None]))
        if bar:
            bar.advance(len(part))
    index.save(str(folder / FILE))
    return n_computed


def _parts(rows: Sequence[tuple[int, bytes, str]]) -> Iterator[Sequence[tuple[int, bytes, str]]]:
    """Passages of similar lengths together, so that batches have little padding."""
    ordered = sorted(rows, key=lambda row: (-len(row[2]), row[0]))
    for start in range(0, len(ordered), AT_ONCE):
        yield ordered[start : start + AT_ONCE]


def _start(previous: Path | None, ids: Sequence[int], width: int) -> Any:
    """The vectors of the version before without those of passages that are gone."""
    if previous is None or not (previous / FILE).is_file():
        return _empty(width)
    index = _restored(previous / FILE, view=False)
    kept = set(ids)
    gone = [int(key) for key in index.keys if int(key) not in kept]
    if len(gone) <= REBUILT * len(index):
        if gone:
            index.remove(np.array(gone, np.uint64))
        return index
    keys = np.array(sorted(kept & {int(key) for key in index.keys}), np.uint64)
    fresh = _empty(width)
    if len(keys):
        fresh.add(keys, np.asarray(index.get(keys), np.float32))
    return fresh


def _empty(width: int) -> Any:
    return needs("usearch.index").Index(ndim=width, metric="ip", dtype="f32")


def _restored(path: Path, view: bool) -> Any:
    index = needs("usearch.index").Index.restore(str(path), view=view)
    if index is None:
        raise CorruptArtifact(f"{path}: holds no vectors", "make the index again")
    return index


class VectorSearch:
    """The vectors of an index, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._index = _restored(folder / FILE, view=True)

    def most_similar(self, vector: np.ndarray, n: int) -> list[tuple[int, float]]:
        """The ids of the passages nearest to `vector` with their cosines, best first; of equal ones the lower id."""
        n = min(n, len(self._index))
        if n == 0:
            return []
        matches = self._index.search(vector, n, exact=len(self._index) <= EXACT)
        found = zip(matches.keys, matches.distances, strict=True)
        return sorted(
            ((int(key), 1.0 - float(distance)) for key, distance in found), key=lambda one: (-one[1], one[0])
        )

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The vectors of passages, (N, width)."""
        return np.asarray(self._index.get(np.array(ids, np.uint64)), np.float32)
