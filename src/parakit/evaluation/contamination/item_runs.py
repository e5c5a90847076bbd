"""The words of a benchmark's items, and the runs of words by which each is found.

An item's words are those of its question and then of its right answer, in lower case and without punctuation. Its runs are
all of 13 words in a row (Brown et al. 2020, appendix C), and whole lines of 8 to 12, so that a short question is found
without its choices; 8 is the least run of Brown et al. Words that begin or end every question belong to the benchmark's
template ("Question:", "Answer:") and are cut off, but runs from the question into the answer are looked for with and without
them. Runs that more than ten items share are a form (`run_table`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parakit.data.duplicates.run_table import MAX_ITEMS, is_content
from parakit.data.duplicates.shingles import batches, window_hashes, word_hashes
from parakit.evaluation.results import Item

N_WORDS = 13
MIN_WORDS = 8  # of a line, or of a short item, that is looked for as a whole


@dataclass(frozen=True)
class ItemRuns:
    """The words of item i are `starts[i]` to `starts[i + 1]`, those of its answer from `answers[i]` on. Run k has
    `lengths[k]` words, of which `places[k]` to `ends[k]` are words of the item (all but those of the template), and the
    hash `hashes[k]`.
    """

    starts: np.ndarray  # (n_items + 1,) int64
    answers: np.ndarray  # (n_items,) int64
    lengths: np.ndarray  # (n_runs,) int64
    places: np.ndarray  # (n_runs,) int64
    ends: np.ndarray  # (n_runs,) int64
    hashes: np.ndarray  # (n_runs,) uint64

    def items_at(self, places: np.ndarray) -> np.ndarray:
        """The item that each word belongs to."""
        return np.searchsorted(self.starts, places, "right") - 1

    def without_question(self) -> np.ndarray:
        """The items without a run of their question alone; of one without a question, its answer stands for it."""
        items = self.items_at(self.places)
        inside = self.ends <= self.answers[items]
        inside |= self.answers[items] == self.starts[items]
        return np.setdiff1d(np.arange(len(self.answers)), items[inside])


def item_runs(items: Sequence[Item]) -> ItemRuns:
    """The runs of `items` that say something about their item."""
    lines = [(number, line) for number, item in enumerate(items) for line in _lines(item)]
    owners = np.array([number for number, _ in lines], np.int64)
    is_answer = np.diff(owners, append=len(items)) > 0  # the last line of each item
    parts = [word_hashes([line for _, line in batch]) for batch in batches(lines, lambda line: len(line[1]))]
    words = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in parts)])
    counts = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    line_of = np.repeat(np.arange(len(lines)), counts)
    n_prompt = np.bincount(owners, counts * ~is_answer, len(items)).astype(np.int64)
    template = _template(words, n_prompt, is_answer[line_of])
    kept = np.append(0, np.cumsum(~template))  # the item's words before each word
    own_counts = np.bincount(line_of[~template], minlength=len(lines))
    starts = np.append(0, np.cumsum(np.bincount(owners, own_counts, len(items)))).astype(np.int64)
    answers = starts[1:] - own_counts[is_answer]
    own = words[~template]
    lengths, places = _choose_runs(starts, np.cumsum(own_counts) - own_counts, own_counts)
    joins = _joins(
        np.append(0, np.cumsum(np.bincount(owners, counts, len(items)))).astype(np.int64), n_prompt
    )
    joins = joins if template.any() else (joins[0][:0], joins[1][:0])
    found = ItemRuns(
        starts,
        answers,
        np.concatenate([lengths, joins[0]]),
        np.concatenate([places, kept[joins[1]]]),
        np.concatenate([places + lengths, kept[joins[1] + joins[0]]]),
        np.concatenate([_hashes(own, lengths, places), _hashes(words, *joins)]),
    )
    content = is_content(found.hashes, found.items_at(found.places))
    runs = (one[content] for one in (found.lengths, found.places, found.ends, found.hashes))
    return ItemRuns(starts, answers, *runs)


def _hashes(words: np.ndarray, lengths: np.ndarray, places: np.ndarray) -> np.ndarray:
    hashes = np.zeros(len(places), np.uint64)
    for length in np.unique(lengths).tolist():
        some = lengths == length
        hashes[some] = window_hashes(words, length)[places[some]]
    return hashes


def _joins(starts: np.ndarray, n_prompt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and places of the runs from the question into the answer, with the template between them, counted over all
    words: question and answer as the benchmark itself writes them.
    """
    n = np.diff(starts)
    length = np.minimum(n, N_WORDS)
    first = np.maximum(0, n_prompt - length + 1)
    last = np.minimum(n_prompt - 1, n - length)
    n_runs = np.where(length >= MIN_WORDS, np.maximum(0, last - first + 1), 0)
    begins = np.repeat(starts[:-1] + first - np.cumsum(n_runs) + n_runs, n_runs)
    return np.repeat(length, n_runs), begins + np.arange(len(begins))


def _lines(item: Item) -> list[str]:
    return [*item.prompt.split("\n"), item.target.replace("\n", " ")]


def _template(words: np.ndarray, n_prompt: np.ndarray, is_answer: np.ndarray) -> np.ndarray:
    """Which of the words begin or end the question of every item."""
    template = np.zeros(len(words), bool)
    if len(n_prompt) <= MAX_ITEMS:
        return template
    of_prompts = np.flatnonzero(~is_answer)
    ends = np.cumsum(n_prompt)
    begins = ends - n_prompt
    for edge, step in ((begins, 1), (ends - 1, -1)):
        for k in range(max(0, int(n_prompt.min()) - 1)):
            at = of_prompts[edge + k * step]
            if (words[at] != words[at[0]]).any():
                break
            template[at] = True
    return template


def _choose_runs(
    starts: np.ndarray, line_starts: np.ndarray, line_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and places of the runs: all of `N_WORDS` words inside each item, short items as a whole, and short lines."""
    n = np.diff(starts)
    length = np.minimum(n, N_WORDS)
    n_runs = np.where(length >= MIN_WORDS, n - length + 1, 0)
    first = np.repeat(starts[:-1] - np.cumsum(n_runs) + n_runs, n_runs)
    short = (line_counts >= MIN_WORDS) & (line_counts < N_WORDS)
    lengths = np.concatenate([np.repeat(length, n_runs), line_counts[short]])
    places = np.concatenate([first + np.arange(len(first)), line_starts[short]])
    _, unique = np.unique(np.stack([places, lengths]), axis=1, return_index=True)
    return lengths[np.sort(unique)], places[np.sort(unique)]
