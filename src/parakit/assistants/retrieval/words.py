"""Search by words: BM25 (Robertson et al. 1994) as bm25s computes it (Lu 2024), over all passages of an index.

The weight of a word depends on how many passages have it, so the table of words is computed again for every version of an
index. A word is a run of at least two letters or digits; of Chinese and Japanese, which put no spaces between words, one
character. English plurals are joined with their singulars by the rules of Harman 1991 ("How effective is suffixing?").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from parakit.assistants.libraries import needs

NO_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
PATTERN = rf"(?u)[^\W{NO_SPACES}]{{2,}}|[{NO_SPACES}]"
FOLDER = "words"
K1, B = 1.5, 0.75  # the usual saturation and normalization by length


def singular(word: str) -> str:
    """The singular of an English plural, by three rules; any other word as it is."""
    if len(word) <= 3 or word[-1] != "s":
        return word
    if word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    return word if word[-2] in "us" else word[:-1]


def tokenize(texts: Sequence[str], language: str) -> Any:
    """The words of texts, as bm25s takes them."""
    bm25s = needs("bm25s")
    return bm25s.tokenize(
        list(texts),
        token_pattern=PATTERN,
        stopwords=None if language == "none" else language,
        stemmer=_singulars if language == "en" else None,
        show_progress=False,
    )


def _singulars(words: Sequence[str]) -> list[str]:
    return [singular(word) for word in words]


def build_words(folder: Path, texts: Sequence[str], language: str) -> None:
    """Write the table of words of `texts`, whose row numbers are the texts' numbers, into `folder`/words."""
    bm25s = needs("bm25s")
    tokens = tokenize(texts, language)
    if not any(tokens.ids):
        return  # nothing that could be searched by words
    table = bm25s.BM25(k1=K1, b=B)
    table.index(tokens, show_progress=False)
    table.save(str(folder / FOLDER), show_progress=False)


class WordSearch:
    """The words of an index, mapped into memory."""

    def __init__(self, folder: Path, n_texts: int, language: str) -> None:
        self._n_texts, self._language = n_texts, language
        self._table: Any = None
        if (folder / FOLDER).is_dir():
            self._table = needs("bm25s").BM25.load(str(folder / FOLDER), mmap=True, show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """BM25 of the query with every text, (N,) float32."""
        tokens = self._words(query)
        if self._table is None or not self._table.get_tokens_ids(tokens):
            return np.zeros(self._n_texts, np.float32)
        return np.asarray(self._table.get_scores(tokens), np.float32)

    def highest(self, query: str) -> float:
        """The bound that no passage's score reaches: every word of the query without end. A word that no passage has
        counts as the rarest there could be.
        """
        known = {} if self._table is None else self._table.vocab_dict
        frequencies = (self._frequency(known[word]) if word in known else 0 for word in self._words(query))
        return sum(map(self._weight, frequencies))

    def _weight(self, frequency: int) -> float:
        return math.log(1 + (self._n_texts - frequency + 0.5) / (frequency + 0.5))

    def _frequency(self, token_id: int) -> int:
        starts = self._starts
        return int(starts[token_id + 1] - starts[token_id])

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.asarray(self._table.scores["indptr"])

    def _words(self, query: str) -> list[str]:
        tokens = tokenize([query], self._language)
        names = {number: word for word, number in tokens.vocab.items()}
        return [names[number] for number in tokens.ids[0]]


def top(scores: np.ndarray, n: int) -> list[int]:
    """The rows of the highest positive scores, best first; of equal ones the first row."""
    positive = np.flatnonzero(scores > 0)
    if len(positive) > n:
        cut = np.partition(scores[positive], len(positive) - n)[len(positive) - n]
        positive = positive[scores[positive] >= cut]
    order = np.lexsort((positive, -scores[positive]))
    return [int(row) for row in positive[order][:n]]
