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
COVERAGE = 0.9998  # of the text, by the characters of a vocabulary too small for all


def count_words(texts: Iterable[str], pre_tokenizer: object, normalizer: object = None) -> Counter[str]:
    """How often each word occurs after normalizing and splitting by `tokenizers`."""
    counts: Counter[str] = Counter()
    for text in texts:
        if normalizer is not None:
            text = normalizer.normalize_str(text)  # type: ignore[attr-defined]
        counts.update(word for word, _ in pre_tokenizer.pre_tokenize_str(text))  # type: ignore[attr-defined]
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
