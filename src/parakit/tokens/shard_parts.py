"""Parts of a split of token shards: the documents of a source, or any others; and documents that two splits share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parakit.tokens.shards import TokenShards


def select_source(shards: TokenShards, number: int) -> TokenShards:
    """The documents of one source, copied into memory, as a split of their own."""
    assert shards.source_of is not None
    mine = np.flatnonzero(np.asarray(shards.source_of) == number)
    n_bytes = shards.source_bytes[number] if number < len(shards.source_bytes) else 0
    return select_documents(shards, mine.tolist(), n_bytes)


def select_documents(shards: TokenShards, numbers: Sequence[int], n_bytes: int) -> TokenShards:
    """These documents, which have `n_bytes` of text, copied into memory, as a split of their own."""
    parts = [shards.token_ids[slice(*shards.offsets[i : i + 2])] for i in numbers]
    return replace(
        shards,
        token_ids=np.concatenate(parts) if parts else np.empty(0, shards.token_ids.dtype),
        offsets=np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]),
        n_bytes=n_bytes,
        mixture=None,
        source_of=None,
        source_bytes=(),
    )


def n_shared_documents(some: TokenShards, others: TokenShards) -> int:
    """How many documents of `some` are, token for token, in `others` too."""
    lengths = np.unique(np.diff(some.offsets))
    candidates = np.flatnonzero(np.isin(np.diff(others.offsets), lengths))
    known = {_document(others, number) for number in candidates.tolist()}
    return sum(_document(some, number) in known for number in range(some.n_documents))


def _document(shards: TokenShards, number: int) -> bytes:
    start, end = shards.offsets[number : number + 2].tolist()
    return np.asarray(shards.token_ids[start:end], np.uint32).tobytes()
