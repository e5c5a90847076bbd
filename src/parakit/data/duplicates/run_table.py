"""Runs of words of known items, by hash, and which of them a text has.

What LeakFinder and the search for contamination share: runs that more than `MAX_ITEMS` items have are a form of the suite
("Which of the following ..."), not its content, and are left out, unless an item has nothing else. Memory: 24 bytes a run,
and 8 to 16 for the filter that lets most words of a text pass without a search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parakit.data.duplicates.shingles import window_hashes

MAX_ITEMS = 10  # that may share a run of words; more share a form


@dataclass(frozen=True)
class RunTable:
    """Runs of `length` words: `hashes` (u,) uint64, sorted and unique; the rows of what the table was made from that have
    run k are `rows[starts[k] : starts[k + 1]]`, in the order of their items; `filled`: the low bits of all hashes.
    """

    length: int
    hashes: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    filled: np.ndarray

    @classmethod
    def build(cls, length: int, hashes: np.ndarray, items: np.ndarray) -> RunTable:
        """From the hash and the item of each run, both (m,)."""
        rows = np.lexsort((items, hashes))
        unique, first = np.unique(hashes[rows], return_index=True)
        filled = np.zeros(1 << max(16, 3 + len(unique).bit_length()), bool)
        filled[unique & np.uint64(len(filled) - 1)] = True
        return cls(length, unique, np.append(first, len(rows)), rows, filled)

    def search(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `words`, hashes (n,), a run of the table begins, and the number of this run."""
        windows = window_hashes(words, self.length)
        maybe = np.flatnonzero(self.filled[windows & np.uint64(len(self.filled) - 1)])
        numbers = np.searchsorted(self.hashes, windows[maybe])
        numbers[numbers == len(self.hashes)] = 0
        equal = self.hashes[numbers] == windows[maybe]
        return maybe[equal], numbers[equal]


def is_content(hashes: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Which of the runs (m,) say something about their item (m,): all but forms, and those of items that have only forms."""
    if not len(hashes):
        return np.zeros(0, bool)
    order = np.lexsort((items, hashes))
    hashes, items = hashes[order], items[order]
    first_of_item = np.r_[True, (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1])]
    unique, n_items = np.unique(hashes[first_of_item], return_counts=True)
    form = np.isin(hashes, unique[n_items > MAX_ITEMS])
    form &= np.isin(items, items[~form])
    found = np.empty(len(hashes), bool)
    found[order] = ~form
    return found
