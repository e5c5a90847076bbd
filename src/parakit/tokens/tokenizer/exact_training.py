"""Deterministic training of merges, where the result of `tokenizers` depends on ties or on random order.

`learn_merges` is textbook BPE: the most frequent pair merges, of equals the one with the greater bytes. `tokenizers`
breaks ties by token id, which for WordPiece follows the random order of a hash map; for byte BPE it is deterministic and
many times faster, so this is the reference there. Pair counts are updated with every merge, in a heap whose outdated
entries are skipped. `choose_alphabet` decides which characters a vocabulary of characters has.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise

BytePair = tuple[bytes, bytes]
Entry = tuple[int, tuple[int, ...], tuple[int, ...], BytePair]
MAX_WORD = 128  # characters of a word that training counts: text without word ends would take quadratic time
COVERAGE = 0.9998  # of the text, by the characters of a vocabulary too small for all


def count_words(texts: Iterable[str], pre_tokenizer: object, normalizer: object = None) -> Counter[str]:
    """How often each word occurs after normalizing and splitting by `tokenizers`. Longer words than `MAX_WORD`
    characters are cut.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        if normalizer is not None:
            text = normalizer.normalize_str(text)  # type: ignore[attr-defined]
        for word, _ in pre_tokenizer.pre_tokenize_str(text):  # type: ignore[attr-defined]
            if len(word) <= MAX_WORD:
                counts[word] += 1
            else:
                counts.update(word[i : i + MAX_WORD] for i in range(0, len(word), MAX_WORD))
    return counts


def choose_alphabet(counts: Mapping[str, int], n_tokens: int) -> list[str]:
    """The characters that a vocabulary of `n_tokens` holds, most frequent first: all of them where they fit into its half,
    else as many as cover the text but for 0.02 %.
    """
    ordered = sorted(counts, key=lambda char: (-counts[char], char))
    covered = COVERAGE * sum(counts.values())
    needed = sum(1 for total in accumulate(counts[char] for char in ordered) if total < covered) + 1
    return ordered[: min(n_tokens, max(needed, n_tokens // 2))]


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
    text = _Parts(words)
    heap = [_entry(pair, count) for pair, count in text.pair_counts.items()]
    heapq.heapify(heap)
    merges: list[BytePair] = []
    while heap and len(merges) < n_merges:
        negative, _, _, pair = heapq.heappop(heap)
        if text.pair_counts[pair] != -negative or not negative:
            continue
        if -negative < min_count:
            break
        joined = pair[0] + pair[1][len(prefix) :]
        if known is not None:
            if joined in known:
                continue
            known.add(joined)
        merges.append(pair)
        for other in text.merge(pair, joined):
            heapq.heappush(heap, _entry(other, text.pair_counts[other]))
    return merges


class _Parts:
    """All words as one chain of parts; a merge visits its occurrences only, so a text without word ends takes no longer
    than one of short words.
    """

    def __init__(self, words: Mapping[tuple[bytes, ...], int]) -> None:
        self.parts: list[bytes] = []  # b"" between words, and where a part was joined to the one before
        self.counts: list[int] = []
        for parts, count in sorted(words.items()):
            self.parts += [b"", *parts]
            self.counts += [count] * (len(parts) + 1)
        self.parts.append(b"")
        n = len(self.parts)
        self.before, self.after = list(range(-1, n - 1)), list(range(1, n + 1))
        self.pair_counts: Counter[BytePair] = Counter()
        self.places: defaultdict[BytePair, list[int]] = defaultdict(
            list
        )  # of the left part; some are outdated
        for i, (pair, count) in enumerate(zip(pairwise(self.parts), self.counts, strict=True)):
            if pair[0] and pair[1]:
                self.pair_counts[pair] += count
                self.places[pair].append(i)

    def merge(self, pair: BytePair, joined: bytes) -> list[BytePair]:
        """Join every occurrence of `pair`, in each word the leftmost first; the pairs whose count has changed."""
        parts, before, after = self.parts, self.before, self.after
        changes: Counter[BytePair] = Counter()
        for i in sorted(self.places.pop(pair)):
            j = after[i]
            if (parts[i], parts[j]) != pair:
                continue
            count, left, right = self.counts[i], before[i], after[j]
            changes[pair] -= count
            parts[i], parts[j] = joined, b""
            after[i], before[right] = right, i
            if parts[left]:
                changes[parts[left], pair[0]] -= count
                self._add(left, count, changes)
            if parts[right]:
                changes[pair[1], parts[right]] -= count
                self._add(i, count, changes)
        self.pair_counts.update(changes)
        return [other for other, change in changes.items() if change]

    def _add(self, i: int, count: int, changes: Counter[BytePair]) -> None:
        pair = (self.parts[i], self.parts[self.after[i]])
        changes[pair] += count
        self.places[pair].append(i)


def _entry(pair: BytePair, count: int) -> Entry:
    """Sorts the most frequent first, then the greater bytes: each byte inverted, with a terminator that sorts last."""
    left, right = ((*(255 - byte for byte in part), 256) for part in pair)
    return -count, left, right, pair
