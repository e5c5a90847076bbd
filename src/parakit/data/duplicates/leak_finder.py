"""Leaks of evaluation suites in training texts: runs of 13 words that a suite has too (Brown et al. 2020, appendix C).

Words are compared in lower case and without punctuation, so a leak with other capitals, line breaks or punctuation is found,
wherever in a text it is. A shorter item of a suite is found by all of its words in a row; one of fewer than `MIN_WORDS`
could be anybody's, and is only counted. Runs that many items have are a form of the suite (`run_table`). Memory: 32 bytes
for each word of the suites.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from parakit.data.duplicates.run_table import RunTable, is_content
from parakit.data.duplicates.shingles import batches, window_hashes, word_hashes

N_WORDS = 13
MIN_WORDS = 6  # of a short item that is looked for


@dataclass(frozen=True)
class Leak:
    """Words `first` to `last` (exclusive) of a text are in an item of a suite."""

    suite: str
    item: int
    first: int
    last: int


class LeakFinder:
    """Looks for the texts of `suites`: (name of a suite, text of one item)."""

    def __init__(self, suites: Iterable[tuple[str, str]]) -> None:
        self.suites: list[str] = []
        self.n_items: dict[str, int] = {}
        self.too_short: dict[str, int] = {}
        self._suite_of: list[int] = []
        windows: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for batch in batches(suites, lambda item: len(item[1])):
            self._add(batch, windows)
        self._tables = [_table(length, windows[length]) for length in sorted(windows, reverse=True)]

    def find(self, text: str) -> list[Leak]:
        """The leaks in `text`, for each item the first run of words that it has too."""
        words, _ = word_hashes([text])
        found: dict[int, list[int]] = {}
        for table, items in self._tables:
            places, numbers = table.search(words)
            for at, item in zip(places.tolist(), items[numbers].tolist(), strict=True):
                if (span := found.get(item)) and at <= span[1]:
                    span[1] = max(span[1], at + table.length)
                elif not span:
                    found[item] = [at, at + table.length]
        return [
            Leak(self.suites[self._suite_of[item]], item, first, last)
            for item, (first, last) in found.items()
        ]

    def _add(
        self, texts: Sequence[tuple[str, str]], windows: dict[int, list[tuple[np.ndarray, np.ndarray]]]
    ) -> None:
        """Number the items of a batch and add the hashes of their windows, each with its item, by length."""
        words, counts = word_hashes([text for _, text in texts])
        lengths = np.minimum(counts, N_WORDS)
        numbers = len(self._suite_of) + np.arange(len(texts))
        starts = np.cumsum(counts) - counts
        for (suite, _), length in zip(texts, lengths.tolist(), strict=True):
            if suite not in self.n_items:
                self.suites.append(suite)
                self.n_items[suite] = self.too_short[suite] = 0
            (self.n_items if length >= MIN_WORDS else self.too_short)[suite] += 1
            self._suite_of.append(self.suites.index(suite))
        for length in range(MIN_WORDS, N_WORDS + 1):
            some = lengths == length
            if some.any():
                n = counts[some] - length + 1
                at = np.repeat(starts[some] - np.cumsum(n) + n, n) + np.arange(n.sum())
                hashes = window_hashes(words, length)[at]
                windows.setdefault(length, []).append((hashes, np.repeat(numbers[some], n)))


def _table(length: int, windows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[RunTable, np.ndarray]:
    """The runs of `length` words that are content, and for each the first item that has it."""
    hashes, items = (np.concatenate(parts) for parts in zip(*windows, strict=True))
    content = is_content(hashes, items)
    hashes, items = hashes[content], items[content]
    table = RunTable.build(length, hashes, items)
    return table, items[table.rows[table.starts[:-1]]]
