"""Deterministic trainers, where the result of `tokenizers` depends on ties or on random order.

`learn_merges` is textbook BPE: the most frequent pair merges, of equals the one with the greater bytes. `tokenizers`
breaks ties by token id, which for WordPiece follows the random order of a hash map; for byte BPE it is deterministic and
many times faster, so this is the reference there. `learn_unigram` is Kudo's unigram model (2018) by expectation
maximization, on whole arrays; `tokenizers` sums floats in random order. Both give the same result on every run. Pair
counts are updated with every merge, in a heap whose outdated entries are skipped.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BytePair = tuple[bytes, bytes]
Entry = tuple[int, tuple[int, ...], tuple[int, ...], BytePair]
MAX_PIECE, MAX_WORD, MAX_WORDS = 16, 48, 50_000  # characters, characters, most frequent words
KEEP, SEEDS_PER_TOKEN, EM_ROUNDS = 0.75, 10, 2


def count_words(texts: Iterable[str], pre_tokenizer: object, normalizer: object = None) -> Counter[str]:
    """How often each word occurs after normalizing and splitting by `tokenizers`."""
    counts: Counter[str] = Counter()
    for text in texts:
        if normalizer is not None:
            text = normalizer.normalize_str(text)  # type: ignore[attr-defined]
        counts.update(word for word, _ in pre_tokenizer.pre_tokenize_str(text))  # type: ignore[attr-defined]
    return counts


def learn_merges(
    words: Mapping[tuple[bytes, ...], int],
    n_merges: int,
    prefix: bytes = b"",
    known: set[bytes] | None = None,
    min_count: int = 1,
) -> list[BytePair]:
    """The first `n_merges` merges, in order; fewer when no pair occurs `min_count` times any more.

    `words` maps a word's parts to its count; `prefix` begins parts that continue a word and is dropped when
    they join to the part before (WordPiece's ##). With `known` (extended here), every merge makes a part that is new.
    """
    state = [(list(parts), count) for parts, count in sorted(words.items())]
    pair_counts: Counter[BytePair] = Counter()
    places: defaultdict[BytePair, set[int]] = defaultdict(set)
    for i, (parts, count) in enumerate(state):
        for pair in pairwise(parts):
            pair_counts[pair] += count
            places[pair].add(i)
    heap = [_entry(pair, count) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges: list[BytePair] = []
    while heap and len(merges) < n_merges:
        negative, _, _, pair = heapq.heappop(heap)
        if pair_counts[pair] != -negative or not negative:
            continue
        if -negative < min_count:
            break
        joined = pair[0] + pair[1][len(prefix) :]
        if known is not None:
            if joined in known:
                continue
            known.add(joined)
        merges.append(pair)
        changes: Counter[BytePair] = Counter()
        for i in places.pop(pair):
            parts, count = state[i]
            merged = _merge(parts, pair, joined)
            for old in pairwise(parts):
                changes[old] -= count
            for new in pairwise(merged):
                changes[new] += count
                places[new].add(i)
            state[i] = (merged, count)
        for other, change in changes.items():
            if change:
                pair_counts[other] += change
                heapq.heappush(heap, _entry(other, pair_counts[other]))
    return merges


def _merge(parts: list[bytes], pair: BytePair, joined: bytes) -> list[bytes]:
    merged, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and parts[i] == pair[0] and parts[i + 1] == pair[1]:
            merged.append(joined)
            i += 2
        else:
            merged.append(parts[i])
            i += 1
    return merged


def _entry(pair: BytePair, count: int) -> Entry:
    """Sorts the most frequent first, then the greater bytes: each byte inverted, with a terminator that sorts last."""
    left, right = ((*(255 - byte for byte in part), 256) for part in pair)
    return -count, left, right, pair


def learn_unigram(word_counts: Mapping[str, int], n_pieces: int) -> list[tuple[str, float]]:
    """At most `n_pieces` pieces with their log-probabilities, most probable first; single characters are
    kept as far as they fit.

    Uses the most frequent words, long ones cut (constants above), which bounds time and memory.
    """
    short: Counter[str] = Counter()
    for word, count in word_counts.items():
        for start in range(0, len(word), MAX_WORD):
            short[word[start : start + MAX_WORD]] += count
    frequent = sorted(short.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
    words, counts = [word for word, _ in frequent], np.array([count for _, count in frequent], np.float64)
    seeds = _seeds(frequent, n_pieces)
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


def _seeds(words: list[tuple[str, int]], n_pieces: int) -> dict[str, float]:
    """Characters, and the substrings that cover most text."""
    counts: Counter[str] = Counter()
    for word, count in words:
        for start in range(len(word)):
            for end in range(start + 1, min(start + MAX_PIECE, len(word)) + 1):
                counts[word[start:end]] += count
    chars = sorted((p for p in counts if len(p) == 1), key=lambda p: (-counts[p], p))[:n_pieces]
    longer = [piece for piece, count in counts.items() if len(piece) > 1 and count > 1]
    longer.sort(key=lambda p: (-counts[p] * len(p), p))
    return {piece: float(counts[piece]) for piece in chars + longer[: SEEDS_PER_TOKEN * n_pieces]}


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
        number = {name: i for i, name in enumerate(names)}
        first = np.cumsum([0, *(len(word) + 1 for word in words)])
        edges = []
        for w, word in enumerate(words):
            for begin in range(len(word)):
                for end in range(begin + 1, min(begin + MAX_PIECE, len(word)) + 1):
                    piece = number.get(word[begin:end])
                    if piece is not None:
                        edges.append((end, w, begin, piece))
        table = np.array(edges, np.int64).reshape(-1, 4)
        table = table[np.argsort(table[:, 0], kind="stable")]
        position, of_word, at, of_piece = table.T
        begin_node, end_node = first[of_word] + at, first[of_word] + position
        return cls(
            first[:-1], first[1:] - 1, of_word, begin_node, end_node, of_piece, position, _slices(position)
        )

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
