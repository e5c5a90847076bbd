"""Training of Unigram: Kudo's unigram model (2018) by expectation maximization, on whole arrays.

Seeds are the substrings that cover most text, counted for all places of the text at once, one length after another: text
without spaces has no words, and long ones would have too many substrings to list. The result is the same on every run;
`tokenizers` sums floats in random order. Training reads the most frequent words, up to a number of characters; the
alphabet is that of all words.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from parakit.tokens.tokenizer.exact_training import choose_alphabet

MAX_PIECE, MAX_WORD, MAX_CHARS = 16, 48, 600_000  # characters; the last of all words together
KEEP, SEEDS_PER_TOKEN, EM_ROUNDS = 0.75, 10, 2


def learn_unigram(word_counts: Mapping[str, int], n_pieces: int) -> list[tuple[str, float]]:
    """At most `n_pieces` pieces with their log-probabilities, most probable first. Single characters are kept as far as
    `choose_alphabet` has them.

    Long words are cut, and rare words left out (constants above), which bounds time and memory.
    """
    chars: Counter[str] = Counter()
    for word, count in word_counts.items():
        for char in word:
            chars[char] += count
    alphabet = choose_alphabet(chars, n_pieces)
    words, counts = _training_words(word_counts, set(chars).difference(alphabet))
    seeds = {char: float(chars[char]) for char in alphabet} | _seeds(
        words, counts, SEEDS_PER_TOKEN * n_pieces
    )
    names, scores = list(seeds), np.array(list(seeds.values()), np.float64)
    lattice, among_pieces = _Lattice.build(words, names), _Lattice.build(names, names)
    while True:
        for _ in range(EM_ROUNDS):
            expected = lattice.expected_counts(counts, scores / scores.sum())
            scores = np.where(scores > 0, np.maximum(expected, 1e-3), 0.0)
        n_left = int((scores > 0).sum())
        if n_left <= n_pieces:
            break
        scores = _prune(names, scores, max(n_pieces, int(KEEP * n_left)), among_pieces)
        lattice, among_pieces = lattice.only(scores > 0), among_pieces.only(scores > 0)
    order = sorted(np.flatnonzero(scores).tolist(), key=lambda i: (-scores[i], names[i]))
    return [(names[i], float(np.log(scores[i] / scores.sum()))) for i in order]


def _training_words(word_counts: Mapping[str, int], unknown: set[str]) -> tuple[list[str], np.ndarray]:
    """The most frequent words and their counts, cut to `MAX_WORD` characters and at unknown characters. Of equally
    frequent ones a sample, spread by a checksum: text without spaces has words that occur once only.
    """
    cut = re.compile("[" + "".join(map(re.escape, sorted(unknown))) + "]") if unknown else None
    short: Counter[str] = Counter()
    for word, count in word_counts.items():
        for part in cut.split(word) if cut else (word,):
            for start in range(0, len(part), MAX_WORD):
                short[part[start : start + MAX_WORD]] += count
    ordered = sorted(short.items(), key=lambda item: (-item[1], zlib.crc32(item[0].encode()), item[0]))
    words: list[str] = []
    n_chars = 0
    for word, _ in ordered:
        n_chars += len(word)
        if n_chars > MAX_CHARS and words:
            break
        words.append(word)
    return words, np.array([short[word] for word in words], np.float64)


@dataclass(frozen=True)
class _Text:
    """Words one after another, as numbers of characters."""

    codes: np.ndarray  # (n_chars,) characters, numbered without gaps
    word_of: np.ndarray  # (n_chars,)
    starts: np.ndarray  # (n_words,) position of the first character
    lengths: np.ndarray  # (n_words,)

    @classmethod
    def of(cls, words: list[str]) -> _Text:
        lengths = np.array([len(word) for word in words], np.int64)
        points = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
        codes = np.unique(points, return_inverse=True)[1]
        return cls(codes, np.repeat(np.arange(len(words)), lengths), np.cumsum(lengths) - lengths, lengths)

    def longer(self, positions: np.ndarray, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Where a substring of n characters begins, and a number for each different one, from those of n - 1."""
        word = self.word_of[positions]
        fits = positions + n <= self.starts[word] + self.lengths[word]
        positions, ids = positions[fits], ids[fits]
        keys = ids * (int(self.codes.max(initial=0)) + 1) + self.codes[positions + n - 1]
        return positions, np.unique(keys, return_inverse=True)[1]


def _seeds(words: list[str], counts: np.ndarray, n_seeds: int) -> dict[str, float]:
    """The substrings of two characters and more that cover most text, with their counts."""
    text = _Text.of(words)
    weight = counts[text.word_of]
    positions, ids = np.arange(len(text.codes)), text.codes
    found = []
    for n in range(2, MAX_PIECE + 1):
        positions, ids = text.longer(positions, ids, n)
        totals = np.bincount(ids, weight[positions])
        frequent = totals > 1
        first = np.zeros(len(totals), np.int64)
        first[ids] = positions
        found.append(
            np.stack([first[frequent], np.full(int(frequent.sum()), n), totals[frequent].astype(np.int64)])
        )
        positions, ids = positions[frequent[ids]], ids[frequent[ids]]
    begin, length, total = np.concatenate(found, axis=1)
    covered = length * total
    if len(covered) > n_seeds:
        least = np.partition(covered, -n_seeds)[-n_seeds]
        begin, length, total = (array[covered >= least] for array in (begin, length, total))
    joined = "".join(words)
    seeds = [(joined[b : b + n], int(c)) for b, n, c in zip(begin, length, total, strict=True)]
    seeds.sort(key=lambda seed: (-seed[1] * len(seed[0]), seed[0]))
    return {piece: float(count) for piece, count in seeds[:n_seeds]}


def _prune(names: list[str], scores: np.ndarray, n_kept: int, among_pieces: _Lattice) -> np.ndarray:
    """Scores with 0 for all but the characters and the pieces whose removal would reduce the likelihood most."""
    probability = scores / scores.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = scores * (np.log(probability) - np.log(among_pieces.best_without_whole(probability)))
    alive = np.flatnonzero(scores).tolist()
    rank = {i: np.inf if len(names[i]) == 1 else loss[i] for i in alive}
    kept = sorted(alive, key=lambda i: (-rank[i], names[i]))[:n_kept]
    pruned = np.zeros_like(scores)
    pruned[kept] = scores[kept]
    return pruned


@dataclass(frozen=True)
class _Lattice:
    """All segmentations of all words: an edge for each occurrence of a piece; nodes are numbered over all words."""

    first_node: np.ndarray  # (n_words,)
    last_node: np.ndarray  # (n_words,)
    word: np.ndarray  # (n_edges,) as the next four, sorted by position
    start: np.ndarray
    end: np.ndarray
    piece: np.ndarray
    position: np.ndarray  # of the end, within its word
    slices: list[slice]  # edges that end at position 1, 2, ...

    @classmethod
    def build(cls, words: list[str], names: list[str]) -> _Lattice:
        """The lattice of `words` over the pieces `names`, found at all places at once, one length after another."""
        text = _Text.of([*words, *names])
        n_chars = sum(map(len, words))
        name_starts, name_lengths = text.starts[len(words) :], text.lengths[len(words) :]
        positions, ids = np.arange(len(text.codes)), text.codes
        begins, lengths, pieces = [], [], []
        for n in range(1, MAX_PIECE + 1):
            if n > 1:
                positions, ids = text.longer(positions, ids, n)
            id_at = np.full(len(text.codes), -1)
            id_at[positions] = ids
            piece_of = np.full(int(ids.max(initial=-1)) + 1, -1)
            exact = np.flatnonzero(name_lengths == n)
            piece_of[id_at[name_starts[exact]]] = exact
            found = (piece_of[ids] >= 0) & (positions < n_chars)
            begins.append(positions[found])
            pieces.append(piece_of[ids[found]])
            lengths.append(np.full(int(found.sum()), n))
            continues = np.zeros(len(piece_of), bool)
            continues[id_at[name_starts[name_lengths > n]]] = True
            positions, ids = positions[continues[ids]], ids[continues[ids]]
        begin, length, of_piece = map(np.concatenate, (begins, lengths, pieces))
        of_word = text.word_of[begin]
        end_in_word = begin - text.starts[of_word] + length
        order = np.argsort(end_in_word, kind="stable")
        of_word, start, position = of_word[order], (begin + of_word)[order], end_in_word[order]
        first = text.starts[: len(words)] + np.arange(len(words))  # a word has one node more than characters
        last = first + text.lengths[: len(words)]
        end, of_piece = start + length[order], of_piece[order]
        return cls(first, last, of_word, start, end, of_piece, position, _slices(position))

    def only(self, alive: np.ndarray) -> _Lattice:
        """The lattice without the edges of removed pieces."""
        kept = alive[self.piece]
        arrays = (self.word, self.start, self.end, self.piece, self.position)
        word, start, end, piece, position = (array[kept] for array in arrays)
        slices = _slices(position)
        return _Lattice(self.first_node, self.last_node, word, start, end, piece, position, slices)

    def expected_counts(self, counts: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """Expected use of each piece when every segmentation is weighted by its probability."""
        edge = probability[self.piece]
        forward, backward = (np.zeros(int(self.last_node[-1]) + 1) for _ in range(2))
        forward[self.first_node] = backward[self.last_node] = 1.0
        for part in self.slices:
            np.add.at(forward, self.end[part], forward[self.start[part]] * edge[part])
        for part in reversed(self.slices):
            np.add.at(backward, self.start[part], backward[self.end[part]] * edge[part])
        total = forward[self.last_node]
        weight = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
        use = weight[self.word] * forward[self.start] * edge * backward[self.end]
        return np.bincount(self.piece, use, len(probability))

    def best_without_whole(self, probability: np.ndarray) -> np.ndarray:
        """Probability of each word's best segmentation into two or more pieces; 0 where there is none."""
        whole = (self.start == self.first_node[self.word]) & (self.end == self.last_node[self.word])
        edge = np.where(whole, 0.0, probability[self.piece])
        best = np.zeros(int(self.last_node[-1]) + 1)
        best[self.first_node] = 1.0
        for part in self.slices:
            np.maximum.at(best, self.end[part], best[self.start[part]] * edge[part])
        return best[self.last_node]


def _slices(position: np.ndarray) -> list[slice]:
    """The ranges of the edges that end at position 1, 2, ..."""
    limits = np.searchsorted(position, np.arange(1, int(position.max(initial=0)) + 2))
    return [slice(a, b) for a, b in pairwise(limits)]
