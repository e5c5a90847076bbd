"""The rules of Gopher and FineWeb: facts of a text, and for each rule a comparison with its threshold.

Gopher's n-grams are compared by 64-bit hashes. The text is walked through, as the definition of a duplicated n-gram wants it,
only where a bound that costs less, their number times the longest, is over the threshold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from parakit.data.cleaning.text_units import is_symbol, split_words

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
SHORT_LINE = 30  # characters
TERMINAL = tuple(".?!。！？؟۔।॥։።၊။៕｡．‼⁇⁈⁉‽…"[:-1])
_PARAGRAPHS, _LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class TextFacts:
    """What the rules measure of one text, each computed once, when a rule needs it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.n_chars = max(1, len(text))
        self._made: list[np.ndarray] = []  # hashes of runs of 1, 2, ... words

    @cached_property
    def words(self) -> list[str]:
        return split_words(self.text)

    @cached_property
    def n_words(self) -> int:
        """Words and punctuation marks; at least 1."""
        return max(1, len(self.words))

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each word occurs."""
        return Counter(self.words)

    @cached_property
    def plain_words(self) -> tuple[int, int]:
        """The number of words without punctuation marks, and their characters."""
        plain = [(len(word), n) for word, n in self.counts.items() if not is_symbol(word)]
        return sum(n for _, n in plain), sum(length * n for length, n in plain)

    @cached_property
    def mean_word_length(self) -> float:
        return self.plain_words[1] / max(1, self.plain_words[0])

    @cached_property
    def letter_share(self) -> float:
        """The share of words with a letter."""
        return sum(n for word, n in self.counts.items() if any(map(str.isalpha, word))) / self.n_words

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines() or [""]

    @cached_property
    def filled_lines(self) -> list[str]:
        return [line for line in self.text.split("\n") if line.strip()] or [""]

    @cached_property
    def paragraph_repeats(self) -> tuple[float, float]:
        """Shares of paragraphs, and of characters in paragraphs, that were there before."""
        return self._repeats(_PARAGRAPHS.split(self.text.strip()))

    @cached_property
    def line_repeats(self) -> tuple[float, float]:
        return self._repeats(_LINES.split(self.text))

    def _repeats(self, parts: list[str]) -> tuple[float, float]:
        n, n_chars = repeated(parts)
        return n / len(parts), n_chars / self.n_chars

    @cached_property
    def _word_ends(self) -> np.ndarray:
        """The characters up to each word, (n + 1,)."""
        ends = np.zeros(len(self.words) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, self.words), np.int64, len(self.words)), out=ends[1:])
        return ends

    def _ngrams(self, n: int) -> _Ngrams:
        """The runs of `n` words, by those of one less."""
        made = self._made
        if not made:
            numbers: dict[str, int] = {}
            ids = [numbers.setdefault(word, len(numbers)) for word in self.words]
            made.append((np.array(ids, np.uint64) + np.uint64(1)) * _FACTOR)
        while len(made) < n:
            last = made[-1]
            made.append(((last ^ (last >> np.uint64(29))) * _FACTOR)[:-1] + made[0][len(made) :])
        return _Ngrams(made[n - 1], self._word_ends[n:] - self._word_ends[:-n])

    def top_ngram_covers(self, n: int, limit: float) -> bool:
        """Whether the most frequent run of `n` words covers over `limit` of the characters, with the spaces in it."""
        if len(self.words) < n:
            return False
        ngrams = self._ngrams(n)
        most = ngrams.counts.max()
        if most * (ngrams.lengths.max() + n - 1) / self.n_chars <= limit:
            return False
        _, first, counts = np.unique(ngrams.hashes, return_index=True, return_counts=True)
        place = first[counts == most].min()
        return bool(most * (ngrams.lengths[place] + n - 1) / self.n_chars > limit)

    def repeats_ngrams(self, n: int, limit: float) -> bool:
        """Whether runs of `n` words that were there before cover over `limit` of the characters; a run that does is
        skipped as a whole.
        """
        if len(self.words) < n:
            return False
        ngrams = self._ngrams(n)
        n_repeats = len(ngrams.hashes) - len(ngrams.counts)
        if n_repeats * ngrams.lengths.max() / self.n_chars <= limit:
            return False
        seen, place, n_chars = set[int](), 0, 0
        keys, sizes = ngrams.hashes.tolist(), ngrams.lengths.tolist()
        while place < len(keys):
            if keys[place] in seen:
                n_chars += sizes[place]
                place += n
            else:
                seen.add(keys[place])
                place += 1
        return n_chars / self.n_chars > limit


@dataclass(frozen=True)
class _Ngrams:
    """A hash of each run of words, and the sum of its words' lengths."""

    hashes: np.ndarray
    lengths: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each different run occurs, in the order of the hashes."""
        ordered = np.sort(self.hashes)
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        return np.diff(np.append(starts, len(ordered)))


def repeated(parts: list[str]) -> tuple[int, int]:
    """How many of `parts` were there before, and their characters."""
    seen, n, n_chars = set[str](), 0, 0
    for part in parts:
        if part in seen:
            n, n_chars = n + 1, n_chars + len(part)
        seen.add(part)
    return n, n_chars


@dataclass(frozen=True)
class Rule:
    """A rule: the published threshold, and whether a text fails at a threshold."""

    name: str
    threshold: float
    fails: Callable[[TextFacts, float], bool]


def _share(lines: list[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, lines)) / len(lines)


def _is_bullet(line: str) -> bool:
    return line.lstrip().startswith(("•", "-"))


def _ends_in_ellipsis(line: str) -> bool:
    return line.rstrip().endswith(("...", "…"))


def _n_ellipses(facts: TextFacts) -> int:
    return facts.text.count("...") + facts.text.count("…")


def _top(n: int) -> Callable[[TextFacts, float], bool]:
    return lambda facts, limit: facts.top_ngram_covers(n, limit)


def _repeated_ngrams(n: int) -> Callable[[TextFacts, float], bool]:
    return lambda facts, limit: facts.repeats_ngrams(n, limit)


def _repeated_line_share(facts: TextFacts) -> float:
    return repeated(facts.filled_lines)[1] / max(1, len(facts.text) - facts.text.count("\n"))


GOPHER = (
    Rule("min_words", 50, lambda facts, limit: facts.plain_words[0] < limit),
    Rule("max_words", 100_000, lambda facts, limit: facts.plain_words[0] > limit),
    Rule("min_mean_word_length", 3, lambda facts, limit: facts.mean_word_length < limit),
    Rule("max_mean_word_length", 10, lambda facts, limit: facts.mean_word_length > limit),
    Rule("max_hashes_per_word", 0.1, lambda facts, limit: facts.text.count("#") / facts.n_words > limit),
    Rule("max_ellipses_per_word", 0.1, lambda facts, limit: _n_ellipses(facts) / facts.n_words > limit),
    Rule("max_bullet_lines", 0.9, lambda facts, limit: _share(facts.lines, _is_bullet) > limit),
    Rule("max_ellipsis_lines", 0.3, lambda facts, limit: _share(facts.lines, _ends_in_ellipsis) > limit),
    Rule("min_words_with_letters", 0.8, lambda facts, limit: facts.letter_share < limit),
    Rule("min_stop_words", 2, lambda facts, limit: len(STOP_WORDS & facts.counts.keys()) < limit),
)
GOPHER_REPETITION = (
    Rule("repeated_paragraphs", 0.3, lambda facts, limit: facts.paragraph_repeats[0] > limit),
    Rule("repeated_paragraph_chars", 0.2, lambda facts, limit: facts.paragraph_repeats[1] > limit),
    Rule("repeated_lines", 0.3, lambda facts, limit: facts.line_repeats[0] > limit),
    Rule("repeated_line_chars", 0.2, lambda facts, limit: facts.line_repeats[1] > limit),
    *(Rule(f"top_{n}_gram", limit, _top(n)) for n, limit in ((2, 0.2), (3, 0.18), (4, 0.16))),
    *(
        Rule(f"repeated_{n}_grams", limit, _repeated_ngrams(n))
        for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    ),
)
FINEWEB = (
    Rule(
        "min_lines_ending_in_punctuation",
        0.12,
        lambda facts, limit: _share(facts.filled_lines, lambda line: line.endswith(TERMINAL)) < limit,
    ),
    Rule(
        "max_short_lines",
        0.67,
        lambda facts, limit: _share(facts.filled_lines, lambda line: len(line) <= SHORT_LINE) > limit,
    ),
    Rule("max_repeated_line_chars", 0.01, lambda facts, limit: _repeated_line_share(facts) > limit),
    Rule("max_line_ends_per_word", 0.3, lambda facts, limit: facts.text.count("\n") / facts.n_words > limit),
)
RULES = {"gopher": GOPHER, "gopher_repetition": GOPHER_REPETITION, "fineweb": FINEWEB}
