"""Finds the items of benchmarks in text. The index holds the items, which are small; the text, which is large, streams
through it once (`item_runs` says what is looked for).

Paraphrases and translations are not found. Memory: about 60 bytes for each word of the items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from parakit.data.documents import Document
from parakit.data.duplicates.run_table import RunTable
from parakit.data.duplicates.shingles import batches, word_hashes
from parakit.evaluation.contamination.item_runs import N_WORDS, ItemRuns, item_runs
from parakit.evaluation.results import Item


@dataclass(frozen=True)
class Touched:
    """An item of which the text has at least one run of words: the share of its words in such runs, whether some of them
    belong to its answer, and the source of a document that has one.
    """

    share: float
    answer: bool
    where: str


@dataclass(frozen=True)
class _Table:
    """Runs of one length: for each row of `runs` where it begins and ends among all words; for each run the number of the
    source in which it was found first, or -1.
    """

    runs: RunTable
    places: np.ndarray
    ends: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class _Benchmark:
    ids: list[str]
    first_word: int
    runs: ItemRuns
    too_short: list[str]


class ItemSearch:
    """Looks for the items of `benchmarks`, by name."""

    def __init__(self, benchmarks: Mapping[str, Sequence[Item]]) -> None:
        self._benchmarks: dict[str, _Benchmark] = {}
        self._sources: list[str] = []
        n_words = 0
        for name, items in benchmarks.items():
            runs = item_runs(items)
            short = runs.without_question()
            too_short = [items[number].id for number in short.tolist()]
            self._benchmarks[name] = _Benchmark([item.id for item in items], n_words, runs, too_short)
            n_words += int(runs.starts[-1])
        self._tables = [_table(list(self._benchmarks.values()), length) for length in self._lengths()]

    def read(self, documents: Iterable[Document]) -> Iterator[int]:
        """Search `documents`; yields the bytes of each batch when it is done. Pieces of one source, one after the other,
        are one text.
        """
        tail, last = np.zeros(0, np.uint64), ""
        for batch in batches(documents, lambda document: len(document.text)):
            words, counts = word_hashes([document.text for document in batch])
            sources = [document.source for document in batch]
            before = len(tail) if sources[0] == last else 0
            begins = np.cumsum(counts) - counts + before
            begins[0] = 0
            new = [True, *(a != b for a, b in pairwise(sources))]
            words = np.concatenate([tail[:before], words])
            self._search(words, begins, begins[np.array(new)], sources)
            last = sources[-1]
            tail = words[begins[np.flatnonzero(new)[-1]] :][-(N_WORDS - 1) :]
            yield sum(document.n_bytes for document in batch)

    def touched(self, name: str) -> dict[str, Touched]:
        """The items of a benchmark that the texts read until now have, by their ids."""
        benchmark = self._benchmarks[name]
        runs = benchmark.runs
        n_words = int(runs.starts[-1])
        edges = np.zeros(n_words + 1, np.int64)
        where: dict[int, int] = {}
        for table in self._tables:
            sources = np.repeat(table.found, np.diff(table.runs.starts))
            places = table.places[table.runs.rows] - benchmark.first_word
            some = (sources >= 0) & (places >= 0) & (places < n_words)
            places, sources = places[some], sources[some]
            np.add.at(edges, places, 1)
            np.add.at(edges, table.ends[table.runs.rows][some] - benchmark.first_word, -1)
            items, first = np.unique(runs.items_at(places), return_index=True)
            where = dict(zip(items.tolist(), sources[first].tolist(), strict=True)) | where
        covered = np.cumsum(edges[:-1]) > 0
        found = {}
        for item, source in sorted(where.items()):
            begin, answer, end = (
                int(at) for at in (runs.starts[item], runs.answers[item], runs.starts[item + 1])
            )
            share = float(covered[begin:end].mean())
            found[benchmark.ids[item]] = Touched(
                share, bool(covered[answer:end].any()), self._sources[source]
            )
        return found

    def too_short(self, name: str) -> list[str]:
        """The ids of the items whose question is too short to be known from other text: found, if at all, with the answer."""
        return self._benchmarks[name].too_short

    def _lengths(self) -> list[int]:
        found = {int(length) for one in self._benchmarks.values() for length in np.unique(one.runs.lengths)}
        return sorted(found, reverse=True)

    def _search(
        self, words: np.ndarray, begins: np.ndarray, texts: np.ndarray, sources: Sequence[str]
    ) -> None:
        """Mark the runs that `words` have; one that goes from a text into the next, where `texts` begin, does not count."""
        for table in self._tables:
            places, numbers = table.runs.search(words)
            last = places + table.runs.length - 1
            fresh = (table.found[numbers] < 0) & (
                np.searchsorted(texts, places, "right") == np.searchsorted(texts, last, "right")
            )
            if fresh.any():
                documents = np.searchsorted(begins, last[fresh], "right") - 1
                unique, of = np.unique(documents, return_inverse=True)
                table.found[numbers[fresh]] = len(self._sources) + of
                self._sources += [sources[number] for number in unique.tolist()]


def _table(benchmarks: Sequence[_Benchmark], length: int) -> _Table:
    some = [one.runs.lengths == length for one in benchmarks]
    hashes, places, ends = (
        np.concatenate(parts)
        for parts in (
            [one.runs.hashes[of] for one, of in zip(benchmarks, some, strict=True)],
            [one.runs.places[of] + one.first_word for one, of in zip(benchmarks, some, strict=True)],
            [one.runs.ends[of] + one.first_word for one, of in zip(benchmarks, some, strict=True)],
        )
    )
    runs = RunTable.build(length, hashes, places)
    return _Table(runs, places, ends, np.full(len(runs.hashes), -1, np.int32))
