"""The batch of a training step as numpy arrays, one class per kind of data.

Padding never counts. `n_counted` is the number that a summed loss is divided by: tokens, examples, pairs or rankings.
B rows, T tokens, S source tokens; R rankings of at most K completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Rows of documents. `loss_mask[b, t]` = `target_ids[b, t]` counts; padding has document id -1."""

    input_ids: np.ndarray  # (B, T) int64
    target_ids: np.ndarray  # (B, T) int64
    loss_mask: np.ndarray  # (B, T) bool
    document_ids: np.ndarray  # (B, T) int32, counted from 0 within each row
    position_ids: np.ndarray  # (B, T) int64, restarting at each document
    n_counted: int
    single_document: bool  # no row holds two documents: plain causal attention is right


BatchT = TypeVar("BatchT", bound=Batch)


def merge_rows(parts: Sequence[tuple[np.ndarray, BatchT]], n_rows: int) -> BatchT:
    """One batch of `n_rows` rows, of several batches of one class and one row length: each at its rows."""
    kind = type(parts[0][1])
    assert all(type(batch) is kind for _, batch in parts), [type(batch) for _, batch in parts]
    arrays = {}
    for field in fields(kind):
        first = getattr(parts[0][1], field.name)
        if isinstance(first, np.ndarray):
            whole = np.empty((n_rows, *first.shape[1:]), first.dtype)
            for rows, batch in parts:
                whole[rows] = getattr(batch, field.name)
            arrays[field.name] = whole
    return kind(
        **arrays,
        n_counted=sum(batch.n_counted for _, batch in parts),
        single_document=all(batch.single_document for _, batch in parts),
    )


@dataclass(frozen=True)
class EvaluationBatch(Batch):
    """`counted_targets` (n_counted,): where each counted target is in the split, in the order of the rows."""

    counted_targets: np.ndarray


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """`input_ids` with tokens masked, `target_ids` the original tokens, `loss_mask` the chosen positions.

    `single_document`: no row has padding or a second document, so every token may attend to every other.
    """


@dataclass(frozen=True)
class PrefixBatch(Batch):
    """Rows of a prefix language model. A query may attend to a key of its own document that is not after it or has
    `prefix_mask`.
    """

    prefix_mask: np.ndarray  # (B, T) bool, True = in its document's prefix

    @property
    def prefix_lengths(self) -> np.ndarray:
        """(B,) int64: tokens in the prefix of each row's first document, the only one where `single_document`."""
        return (self.prefix_mask & (self.document_ids == 0)).sum(1)


@dataclass(frozen=True)
class PairBatch:
    """Sources and targets of an encoder-decoder. Inputs are the targets shifted right by one behind the decoder's
    start id (teacher forcing).

    Where rows hold several documents (span corruption, prefixes), the document ids, counted from 0 within each row
    and -1 for padding, match targets to sources; None: one pair a row.
    """

    source_ids: np.ndarray  # (B, S) int64
    source_mask: np.ndarray  # (B, S) bool, True = no padding
    input_ids: np.ndarray  # (B, T) int64
    target_ids: np.ndarray  # (B, T) int64
    loss_mask: np.ndarray  # (B, T) bool, True = `target_ids` counts
    n_counted: int  # tokens
    source_document_ids: np.ndarray | None = None  # (B, S) int32
    document_ids: np.ndarray | None = None  # (B, T) int32


@dataclass(frozen=True)
class LabelledBatch:
    """Texts with a class (B,) int64, a score (B,) float32, a tag for each token (B, T) int64, labels (B, L) float32 that are
    0 or 1, or the first and the last token (B, 2) int64 of an answer.
    """

    input_ids: np.ndarray  # (B, T) int64
    attention_mask: np.ndarray  # (B, T) bool, True = no padding
    token_type_ids: np.ndarray | None  # (B, T) int64: 0 the first text, 1 the second
    labels: np.ndarray
    loss_mask: np.ndarray | None  # (B, T) bool for tags: True = the first token of a word; else None
    n_counted: int  # examples, or tagged words


@dataclass(frozen=True)
class TextPairBatch:
    """Pairs of texts with the same meaning: row i of `second_ids` belongs to row i of `first_ids`. Hard negatives of row i
    are those of `negative_ids` [i]; where there are fewer than K, the rest is all padding.
    """

    first_ids: np.ndarray  # (B, T) int64
    first_mask: np.ndarray  # (B, T) bool, True = no padding
    second_ids: np.ndarray  # (B, S) int64
    second_mask: np.ndarray  # (B, S) bool
    n_counted: int  # pairs
    negative_ids: np.ndarray | None = None  # (B, K, U) int64
    negative_mask: np.ndarray | None = None  # (B, K, U) bool


@dataclass(frozen=True)
class RankingBatch:
    """Rankings of completions, best first; targets are the inputs, one position ahead. An entry [r, k] without a
    completion is all padding.
    """

    input_ids: np.ndarray  # (R, K, T) int64
    target_ids: np.ndarray  # (R, K, T) int64
    loss_mask: np.ndarray  # (R, K, T) bool, True = the target is in the completion, its end of turn included
    real_mask: np.ndarray  # (R, K, T) bool, True = no padding
    margins: np.ndarray  # (R,) float32
    n_counted: int  # rankings
    reference: np.ndarray | None = None  # (R, K) float32, log-probabilities under the reference
    share_prompts: bool = False
    """Encode what the completions of a ranking share only once; the model must support prefix trees."""


AnyBatch = Batch | PairBatch | LabelledBatch | TextPairBatch | RankingBatch


@dataclass(frozen=True)
class Occurrence:
    """A stretch of a document in a row: input tokens `first_token` to `first_token + n_tokens - 1` of the document, its
    special tokens counted, at the row's columns from `column` on. With a shift of 1 the token after each is its target.
    """

    row: int
    column: int
    first_token: int
    n_tokens: int
