"""MinHash signatures of texts, written to files: at any number of texts, memory holds one batch.

A signature has the least of the 5-word shingles of a text under each of `2 * n_bands` hash functions (Broder 1997). Two
functions make a band; texts that agree in both are candidates (locality-sensitive hashing, Indyk & Motwani 1998). The low
byte of each least hash is written too, from which the resemblance of candidates is estimated (b-bit minwise hashing, Li &
König 2010), and the set of all pairs of words, from which it is computed.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from parakit.common.files import save_array, write_array
from parakit.data.duplicates.shingles import grams, mix, word_hashes

SHINGLE_WORDS = 5
PAIR_WORDS = 2
ROWS = 2  # hash functions of a band
MIN_BANDS, MAX_BANDS = 16, 256
FOUND_AT_LIMIT = 0.8  # probability that a pair exactly at the wished similarity becomes a candidate

_FILES = ("keys.bin", "sketches.bin", "pairs.bin")
_BATCH_CHARS, _BATCH_TEXTS = 1 << 18, 4_096


def n_bands(similarity: float) -> int:
    """The bands that find pairs of texts whose sets of word pairs have this Jaccard similarity, where single words
    differ throughout: the hardest case, for a block that differs leaves more shingles whole.
    """
    equal_word = math.sqrt(2 * similarity / (1 + similarity))
    equal_shingle = equal_word**SHINGLE_WORDS
    in_band = (equal_shingle / (2 - equal_shingle)) ** ROWS
    if in_band >= 1:
        return MIN_BANDS
    return min(MAX_BANDS, max(MIN_BANDS, math.ceil(math.log(1 - FOUND_AT_LIMIT) / math.log(1 - in_band))))


class SignatureWriter:
    """Writes the signatures of texts to `folder`, which must exist."""

    def __init__(self, folder: Path, bands: int) -> None:
        self.folder, self.bands = folder, bands
        rng = np.random.default_rng(0x5EED)
        self._factors = rng.integers(0, 2**32, ROWS * bands, dtype=np.uint32) | np.uint32(1)
        self._masks = rng.integers(0, 2**32, ROWS * bands, dtype=np.uint32)
        self._texts: list[str] = []
        self._n_chars = 0
        self._sizes: list[np.ndarray] = []
        self._blocks: list[int] = []
        for name in _FILES:
            (folder / name).write_bytes(b"")

    def add(self, text: str) -> None:
        """Take the next text."""
        self._texts.append(text)
        self._n_chars += len(text)
        if self._n_chars >= _BATCH_CHARS or len(self._texts) >= _BATCH_TEXTS:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the index, which is there only when all of the rest is."""
        self._flush()
        sizes = np.concatenate(self._sizes) if self._sizes else np.zeros(0, np.int64)
        save_array(self.folder / "sizes.npy", sizes)
        save_array(self.folder / "blocks.npy", np.array(self._blocks, np.int64))

    def _flush(self) -> None:
        if not self._texts:
            return
        words, counts = word_hashes(self._texts)
        n = len(counts)
        least = self._minima(*grams(words, counts, SHINGLE_WORDS))  # (hashes, n)
        with np.errstate(over="ignore"):
            both = least[0::ROWS].astype(np.uint64) << np.uint64(32) | least[1::ROWS]
            keys = (mix(both) >> np.uint64(32)).astype(np.uint32)
        pairs, n_pairs = grams(words, counts, PAIR_WORDS)
        tagged = np.repeat(np.arange(n, dtype=np.uint64) << np.uint64(32), n_pairs) | pairs >> np.uint64(32)
        tagged = np.unique(tagged)
        sketches = np.ascontiguousarray(least.T.astype(np.uint8))
        arrays: tuple[np.ndarray, ...] = keys, sketches, tagged.astype(np.uint32)
        for name, array in zip(_FILES, arrays, strict=True):
            with open(self.folder / name, "ab") as file:
                write_array(file, array)
        self._sizes.append(np.bincount((tagged >> np.uint64(32)).astype(np.int64), minlength=n))
        self._blocks.append(n)
        self._texts, self._n_chars = [], 0

    def _minima(self, hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The least value of each text under each hash function, (hashes, n) uint32; the largest where it has none."""
        least = np.full((ROWS * self.bands, len(counts)), 2**32 - 1, np.uint32)
        filled = counts > 0
        if not filled.any():
            return least
        starts = (np.cumsum(counts) - counts)[filled]
        values = (hashes >> np.uint64(32)).astype(np.uint32)
        mixed = np.empty_like(values)
        for k, (mask, factor) in enumerate(zip(self._masks, self._factors, strict=True)):
            np.bitwise_xor(values, mask, out=mixed)
            np.multiply(mixed, factor, out=mixed)
            least[k, filled] = np.minimum.reduceat(mixed, starts)
        return least


class Signatures:
    """The signatures of the texts in `folders`, one after the other, read from their files as they are needed."""

    def __init__(self, folders: list[Path], bands: int) -> None:
        self.bands, self._folders = bands, folders
        self._blocks = [np.load(folder / "blocks.npy") for folder in folders]
        sizes = [np.load(folder / "sizes.npy") for folder in folders]
        self.sizes = np.concatenate(sizes) if sizes else np.zeros(0, np.int64)
        self.n = len(self.sizes)
        self._first = np.cumsum([0, *map(len, sizes)])  # of each folder
        self._ends = [np.cumsum(one) for one in sizes]
        self._sketches = [
            _mapped(folder / "sketches.bin", np.uint8).reshape(-1, ROWS * bands) for folder in folders
        ]
        self._pairs = [_mapped(folder / "pairs.bin", np.uint32) for folder in folders]

    def band(self, number: int) -> np.ndarray:
        """The key of every text in one band, (n,) uint32."""
        keys = np.empty(self.n, np.uint32)
        place = 0
        for folder, blocks in zip(self._folders, self._blocks, strict=True):
            start = 0
            with open(folder / "keys.bin", "rb") as file:
                for n in blocks.tolist():
                    file.seek(4 * (start + n * number))
                    keys[place : place + n] = np.frombuffer(file.read(4 * n), np.uint32)
                    start += n * self.bands
                    place += n
        return keys

    def agreements(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """In how many of the hash functions each text of `one` agrees with that of `other`."""
        return np.count_nonzero(self._sketch(one) == self._sketch(other), axis=1)

    def similarity(self, one: int, other: int) -> float:
        """The Jaccard similarity of two texts' sets of word pairs."""
        a, b = self._pair_set(one), self._pair_set(other)
        if len(a) > len(b):
            a, b = b, a
        if not len(a):
            return 0.0
        places = np.searchsorted(b, a)
        places[places == len(b)] = 0
        shared = int(np.count_nonzero(b[places] == a))
        return shared / (len(a) + len(b) - shared)

    def _sketch(self, texts: np.ndarray) -> np.ndarray:
        if len(self._folders) == 1:
            return self._sketches[0][texts]
        rows = np.empty((len(texts), ROWS * self.bands), np.uint8)
        owner = np.searchsorted(self._first, texts, side="right") - 1
        for k in np.unique(owner).tolist():
            rows[owner == k] = self._sketches[k][texts[owner == k] - self._first[k]]
        return rows

    def _pair_set(self, text: int) -> np.ndarray:
        k = int(np.searchsorted(self._first, text, side="right")) - 1
        end = int(self._ends[k][text - self._first[k]])
        return self._pairs[k][end - int(self.sizes[text]) : end]


def _mapped(path: Path, dtype: type) -> np.ndarray:
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
