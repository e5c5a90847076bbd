"""Rows of token shards as a pure function of (seed, row number), so that the data position is the step number.

A document of n tokens gives n - 1 pairs (input, target); every pair occurs exactly once an epoch. "concat" cuts
documents longer than a row into windows, at a seeded offset that differs per epoch: a full window is a row of its own,
so that its context is complete; shorter pieces are concatenated and cut into rows. "pack" puts documents (conversations)
best-fit into padded rows, and the rows are permuted; one that is longer than a row is cut there, left out or refused
(`long_rows.py`), and one without a counted token is left out. In both, `document_ids` separate the
documents of a row, and positions restart with each. With `shift` 0 each token is its own target, and a document of n
tokens gives n pairs: the input of masking and span corruption. Numpy only; B rows, T = seq_len.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.tokens.batches.batch import Batch, EvaluationBatch, Occurrence
from parakit.tokens.batches.packing import (
    best_fit_decreasing,
    cut_at_offsets,
    n_concat_rows,
    seeded_offsets,
    windows,
)
from parakit.tokens.config import LongRowRule
from parakit.tokens.long_rows import LongRows, RowKind, by_seq_len, fit_rows

CONVERSATIONS = RowKind("conversations", "answers", "cut after their last answer")
PACKED_LEN = 512  # longest window that is packed with others for evaluation: attention pays for the whole row


class TokenSource(Protocol):
    """What batches read of token shards."""

    @property
    def token_ids(self) -> np.ndarray:
        """(n_tokens,)"""
        ...

    @property
    def offsets(self) -> np.ndarray:
        """(n_documents + 1,) int64"""
        ...

    @property
    def loss_mask(self) -> np.ndarray | None:
        """(n_tokens,), True = counts; None: everything counts."""
        ...

    @property
    def pad_id(self) -> int | None:
        """Fills the rest of a row."""
        ...


@dataclass(frozen=True)
class _Spans:
    """Runs of consecutive pairs and their positions in the rows."""

    token_start: np.ndarray  # (n,) index of the first input token
    length: np.ndarray  # (n,)
    row: np.ndarray  # (n,) ascending
    column: np.ndarray  # (n,)
    n_context: np.ndarray | int = 0  # leading pairs that do not count


@dataclass(frozen=True)
class _ConcatEpoch:
    """How one epoch is cut: windows that fill a row, and remainders that are concatenated."""

    full_starts: np.ndarray  # first token of each full window
    rest_starts: np.ndarray  # first token of each remainder, in order of concatenation
    rest_offsets: np.ndarray  # where each remainder begins in the concatenation, and its end
    order: (
        np.ndarray
    )  # the permutation of rows: numbers below len(full_starts) are windows, then rows of remainders


class BatchSource:
    """An endless sequence of rows of a split, in a seeded order."""

    def __init__(
        self,
        shards: TokenSource,
        seq_len: int,
        seed: int,
        packing: str = "concat",
        too_long: LongRowRule = "truncate",
        shift: int = 1,
        window: int | None = None,
        documents: np.ndarray | None = None,
    ) -> None:
        """`too_long` is for "pack"; `window`: the longest row that the model reads, for messages. `documents`: which of
        the documents are read, (n_documents,) bool; None: all.
        """
        assert shift in (0, 1)
        self.shards, self.seq_len, self.seed, self.packing = shards, seq_len, seed, packing
        self.shift = shift  # a target is this many positions ahead of its input
        self._starts = np.asarray(shards.offsets[:-1], np.int64)
        self._n_pairs = np.maximum(np.diff(shards.offsets) - shift, 0)
        if documents is not None:
            self._n_pairs = np.where(documents, self._n_pairs, 0)
        self.long_rows: LongRows | None = None
        if packing == "pack" and self._n_pairs.any():
            self._fit_packed(too_long, window)
        self.n_pairs_per_epoch = int(self._n_pairs.sum())
        if self.n_pairs_per_epoch == 0:
            raise UserError("this split has no token to predict", "give it more text")
        if packing == "pack":
            self._order = np.argsort(-self._n_pairs, kind="stable")[: int((self._n_pairs > 0).sum())]
            self._row_of = best_fit_decreasing(self._n_pairs[self._order], seq_len)
            self.rows_per_epoch = float(self._row_of.max() + 1)
        else:
            self.rows_per_epoch = float(n_concat_rows(self._n_pairs, seq_len))
        self._concat_cut = lru_cache(maxsize=3)(self._concat_epoch)
        self._packed_order = lru_cache(maxsize=3)(self._packed_epoch)

    def rows(self, start_row: int, n_rows: int) -> Batch:
        """Rows `start_row` to `start_row + n_rows - 1`, a pure function of the seed."""
        spans = self._concat_rows if self.packing == "concat" else self._packed_rows
        return Batch(**_gather(self.shards, spans(start_row, n_rows), n_rows, self.seq_len, self.shift)[0])

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return row / self.rows_per_epoch

    def n_pairs_in(self, n_rows: int) -> int:
        """Pairs in the first `n_rows` rows of "concat", padding not counted."""
        epochs, rest = divmod(n_rows, int(self.rows_per_epoch))
        cut = self._concat_cut(epochs)
        last_length = int(cut.rest_offsets[-1]) % self.seq_len
        last_row = int(np.flatnonzero(cut.order == len(cut.order) - 1)[0])
        padding = self.seq_len - last_length if last_length and last_row < rest else 0
        return epochs * self.n_pairs_per_epoch + rest * self.seq_len - padding

    def find(self, document: int, n_rows: int) -> list[Occurrence]:
        """Where the first `n_rows` rows read tokens of a document of the shards, row by row."""
        per_epoch = int(self.rows_per_epoch)
        found = []
        for epoch in range(-(-n_rows // per_epoch)):
            inside = self._find_packed if self.packing == "pack" else self._find_concat
            found += [replace(one, row=epoch * per_epoch + one.row) for one in inside(epoch, document)]
        return sorted((one for one in found if one.row < n_rows), key=lambda one: (one.row, one.column))

    def _find_concat(self, epoch: int, document: int) -> Iterator[Occurrence]:
        cut, start, n = self._concat_cut(epoch), int(self._starts[document]), int(self._n_pairs[document])
        for number in np.flatnonzero((cut.full_starts >= start) & (cut.full_starts < start + n)).tolist():
            row = int(np.flatnonzero(cut.order == number)[0])
            yield Occurrence(row, 0, int(cut.full_starts[number]) - start, self.seq_len)
        for rest in np.flatnonzero((cut.rest_starts >= start) & (cut.rest_starts < start + n)).tolist():
            first, (low, high) = (
                int(cut.rest_starts[rest]) - start,
                cut.rest_offsets[rest : rest + 2].tolist(),
            )
            while low < high:
                number, column = divmod(low, self.seq_len)
                length = min(high - low, self.seq_len - column)
                row = int(np.flatnonzero(cut.order == len(cut.full_starts) + number)[0])
                yield Occurrence(row, column, first, length)
                low, first = low + length, first + length

    def _find_packed(self, epoch: int, document: int) -> Iterator[Occurrence]:
        order, begins = self._packed_order(epoch)
        for place in np.flatnonzero(order == document).tolist():
            row = int(np.searchsorted(begins, place, "right")) - 1
            column = int(self._n_pairs[order[begins[row] : place]].sum())
            yield Occurrence(row, column, 0, int(self._n_pairs[document]))

    def _concat_epoch(self, epoch: int) -> _ConcatEpoch:
        """Where this epoch cuts, and in which order its full windows and rows of remainders come."""
        generator = rng(self.seed, "stream", epoch)
        offsets = seeded_offsets(self._n_pairs, self.seq_len, generator)
        document, first, length = cut_at_offsets(self._n_pairs, self.seq_len, offsets)
        starts = self._starts[document] + first
        full = length == self.seq_len
        rests = np.flatnonzero(~full)[generator.permutation(int((~full).sum()))]
        places = np.concatenate([[0], np.cumsum(length[rests])])
        order = generator.permutation(int(self.rows_per_epoch))
        return _ConcatEpoch(starts[full], starts[rests], places, order)

    def _concat_rows(self, start_row: int, n_rows: int) -> _Spans:
        parts = [self._concat_row(start_row + i, i) for i in range(n_rows)]
        return _Spans(*np.concatenate(parts, axis=1))

    def _concat_row(self, row: int, row_in_batch: int) -> np.ndarray:
        """One row's spans as columns of (first token, length, row in the batch, column)."""
        epoch = self._concat_cut(row // int(self.rows_per_epoch))
        number = int(epoch.order[row % int(self.rows_per_epoch)])
        if number < len(epoch.full_starts):
            return np.array([[epoch.full_starts[number]], [self.seq_len], [row_in_batch], [0]])
        low = (number - len(epoch.full_starts)) * self.seq_len
        high = min(low + self.seq_len, int(epoch.rest_offsets[-1]))
        first, last = np.searchsorted(epoch.rest_offsets, [low + 1, high]) - [1, 0]
        begin = np.maximum(epoch.rest_offsets[first:last], low)
        end = np.minimum(epoch.rest_offsets[first + 1 : last + 1], high)
        starts = epoch.rest_starts[first:last] + begin - epoch.rest_offsets[first:last]
        return np.stack([starts, end - begin, np.full(last - first, row_in_batch), begin - low])

    def _fit_packed(self, too_long: LongRowRule, window: int | None) -> None:
        """Cut documents to a row, and take those out that are not to be trained on. One of n tokens needs a row of n - 1."""
        counted, counted_left, shortest = _counted_targets(
            self.shards.loss_mask, self._starts + self.shift, self._n_pairs, self.seq_len
        )
        stays, self.long_rows = fit_rows(
            CONVERSATIONS,
            self._n_pairs,
            self.seq_len,
            too_long,
            counted=counted,
            counted_left=counted_left,
            shortest=shortest,
            way_out=by_seq_len(window),
        )
        self._n_pairs = np.where(stays, np.minimum(self._n_pairs, self.seq_len), 0)

    def _packed_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents in row order, and where each row's documents begin."""
        generator = rng(self.seed, "whole", epoch)
        lengths = self._n_pairs[self._order]
        shuffled = generator.permutation(len(lengths))
        order = self._order[
            shuffled[np.argsort(-lengths[shuffled], kind="stable")]
        ]  # documents of equal length are shuffled
        n_rows = int(self.rows_per_epoch)
        row = generator.permutation(n_rows)[self._row_of]
        by_row = np.argsort(row, kind="stable")
        return order[by_row], np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))])

    def _packed_rows(self, start_row: int, n_rows: int) -> _Spans:
        per_epoch = int(self.rows_per_epoch)
        documents, rows = [], []
        row = start_row
        while row < start_row + n_rows:
            epoch, first = divmod(row, per_epoch)
            n = min(per_epoch - first, start_row + n_rows - row)
            order, begins = self._packed_order(epoch)
            documents.append(order[begins[first] : begins[first + n]])
            counts = np.diff(begins[first : first + n + 1])
            rows.append(np.repeat(np.arange(row - start_row, row - start_row + n), counts))
            row += n
        document, in_row = np.concatenate(documents), np.concatenate(rows)
        return _left_to_right(self._starts[document], self._n_pairs[document], in_row)


def _counted_targets(
    loss_mask: np.ndarray | None, starts: np.ndarray, lengths: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each run of targets: those that count, those of them among the first `limit`, and for runs that are longer the
    place of the first one (from 1).
    """
    if loss_mask is None:
        return lengths, np.minimum(lengths, limit), np.minimum(lengths, 1)
    counts = np.asarray(loss_mask) > 0
    counted, first = np.zeros(len(lengths), np.int64), np.ones(len(lengths), np.int64)
    some = lengths > 0
    edges = np.stack([starts[some], starts[some] + lengths[some]], axis=1).ravel()
    if len(edges):
        inner = edges[:-1] if edges[-1] == len(counts) else edges
        counted[some] = np.add.reduceat(counts, inner, dtype=np.int64)[::2]
    left = counted.copy()
    for document in np.flatnonzero((lengths > limit) & (counted > 0)).tolist():
        own = counts[starts[document] : starts[document] + lengths[document]]
        left[document], first[document] = own[:limit].sum(), np.argmax(own) + 1
    return counted, left, first


def rank_rows(step: int, n_rows: int, rank: int = 0, world_size: int = 1) -> tuple[int, int]:
    """The first row and the number of rows that `rank` gets of a step with `n_rows` rows in all."""
    first, end = n_rows * rank // world_size, n_rows * (rank + 1) // world_size
    return step * n_rows + first, end - first


def evaluation_batches(
    shards: TokenSource,
    seq_len: int,
    rows_per_batch: int,
    overlap: int = 0,
    n_ends: np.ndarray | int = 0,
) -> Iterator[EvaluationBatch]:
    """The whole split, in a fixed order: every token but the first of each document is predicted exactly once.

    Documents longer than `seq_len` are read in windows, each but the first beginning with `overlap` tokens of context
    that are not counted again, the last with as many as fit. Windows of up to `PACKED_LEN` tokens are packed and isolated
    from each other; a longer one is a row of its own, in batches that are as wide as their longest. The last batch has
    fewer rows. `n_ends`: how many tokens at the end of each document are no text, and shift no window of it.
    """
    if not 0 <= overlap < seq_len:
        fitting = max(0, min(overlap, seq_len - 1))
        raise UserError(
            f"overlap {overlap} must be at least 0 and below seq_len {seq_len}", f"set overlap to {fitting}"
        )
    n_pairs = np.maximum(np.diff(shards.offsets) - 1, 0)
    document, first, length, n_context = windows(n_pairs, seq_len, overlap, n_ends)
    starts = np.asarray(shards.offsets[:-1], np.int64)[document] + first
    order = np.argsort(-length, kind="stable")
    tokens_per_batch = rows_per_batch * seq_len
    n_long = int((length > PACKED_LEN).sum()) if seq_len > PACKED_LEN else 0
    while n_long:
        width = int(length[order[0]])
        chosen, order = np.split(order, [min(n_long, max(1, tokens_per_batch // width))])
        n_long -= len(chosen)
        rows = np.arange(len(chosen))
        spans = _Spans(starts[chosen], length[chosen], rows, np.zeros_like(rows), n_context[chosen])
        yield _evaluation_batch(shards, spans, len(chosen), width)
    seq_len = max(1, min(seq_len, PACKED_LEN, int(length[order].sum())))
    rows_per_batch = max(1, tokens_per_batch // seq_len)
    row = best_fit_decreasing(length[order], seq_len)
    by_row = np.argsort(row, kind="stable")
    order, row = order[by_row], row[by_row]
    n_rows = int(row[-1]) + 1 if len(row) else 0
    for start in range(0, n_rows, rows_per_batch):
        n = min(rows_per_batch, n_rows - start)
        low, high = np.searchsorted(row, [start, start + n])
        chosen = order[low:high]
        spans = _left_to_right(starts[chosen], length[chosen], row[low:high] - start, n_context[chosen])
        yield _evaluation_batch(shards, spans, n, seq_len)


def _evaluation_batch(shards: TokenSource, spans: _Spans, n_rows: int, seq_len: int) -> EvaluationBatch:
    fields, counted_targets = _gather(shards, spans, n_rows, seq_len, 1)
    return EvaluationBatch(**fields, counted_targets=counted_targets)


def _left_to_right(
    starts: np.ndarray, lengths: np.ndarray, row: np.ndarray, n_context: np.ndarray | int = 0
) -> _Spans:
    """Place the spans of each row one after another. `row` is ascending."""
    before = np.cumsum(lengths) - lengths
    first_of_row = np.searchsorted(row, row, "left")
    return _Spans(starts, lengths, row, before - before[first_of_row], n_context)


def _gather(
    shards: TokenSource, spans: _Spans, n_rows: int, seq_len: int, shift: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Read the tokens of `spans` into rows, the rest padding: the fields of a `Batch`, and the index of each counted target."""
    n = spans.length
    step = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)  # 0, 1, ... within each span
    source = np.repeat(spans.token_start, n) + step
    target = source + shift
    position = np.repeat(spans.row * seq_len + spans.column, n) + step
    number_in_row = np.arange(len(n)) - np.searchsorted(spans.row, spans.row, "left")

    def filled(values: np.ndarray, padding: int, dtype: type) -> np.ndarray:
        flat: np.ndarray = np.full(n_rows * seq_len, padding, dtype)
        flat[position] = values
        return flat.reshape(n_rows, seq_len)

    counted = np.ones(len(source), bool) if shards.loss_mask is None else shards.loss_mask[target] > 0
    counted &= step >= np.repeat(np.broadcast_to(spans.n_context, n.shape), n)
    pad_id = shards.pad_id or 0
    fields = {
        "input_ids": filled(shards.token_ids[source], pad_id, np.int64),
        "target_ids": filled(shards.token_ids[target], pad_id, np.int64),
        "loss_mask": filled(counted, 0, np.bool_),
        "document_ids": filled(np.repeat(number_in_row, n), -1, np.int32),
        "position_ids": filled(step, 0, np.int64),
        "n_counted": int(counted.sum()),
        "single_document": bool((number_in_row == 0).all()),
    }
    return fields, target[counted]
