"""From rows of documents to rows of source-target pairs: each piece of a document gives one source and one target, in
the order of the pieces.

Every source and every target ends with EOS, and the inputs of every target begin with the start id, so that a packed
pair has the same ids as alone. A pair longer than the piece it comes from (a window of a few tokens) is skipped: no row
of pairs is longer than its row of text. All pieces of a batch are processed at once: a loop over them would cost more
than a step of a small model.
B rows, T tokens, P pieces, N tokens of text in all of them, E inserted tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parakit.tokens.batches.batch import Batch, PairBatch
from parakit.tokens.batches.vocab_info import VocabInfo

SOURCE, TARGET = 0, 1


@dataclass(frozen=True)
class Segments:
    """The text of every piece, without the special tokens that open or close its document."""

    piece: np.ndarray  # (N,) the piece of each token, ascending
    number: np.ndarray  # (N,) 0, 1, ... within each piece
    lengths: np.ndarray  # (P,)
    draws: np.ndarray  # (N,) in [0, 1), one for each token


@dataclass(frozen=True)
class Assignment:
    """The side and position of every token of `Segments`."""

    splits: np.ndarray  # (P,) bool, False: too short for two assignment
    lengths: np.ndarray  # (2, P) tokens of each side
    side: np.ndarray  # (N,) SOURCE or TARGET
    position: np.ndarray  # (N,) within its side
    inserted: np.ndarray  # (4, E) piece, side, position and id of inserted tokens (sentinels)


@dataclass(frozen=True)
class _Pieces:
    """Pieces of documents in a batch, as positions in its flattened rows."""

    row: np.ndarray  # (P,)
    begin: np.ndarray  # (P,) first token
    length: np.ndarray  # (P,)
    text_begin: (
        np.ndarray
    )  # (P,) first token of text, after any special token that opens a document (BART's BOS)


def segments_of(batch: Batch, vocab: VocabInfo, draws: np.ndarray) -> tuple[Segments, _Pieces]:
    """All pieces of `batch` and their segments. `draws` (B, T) in [0, 1)."""
    real = np.flatnonzero(batch.document_ids >= 0)  # positions in the flattened rows
    seq_len = batch.document_ids.shape[1]
    owner = (
        batch.document_ids.reshape(-1)[real] + real // seq_len * seq_len
    )  # unique for each row and document
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    begin, length = real[first], np.diff(np.append(first, len(real)))
    token_ids = batch.input_ids.reshape(-1)[real]
    ordinary = ~vocab.special[token_ids] | (token_ids == vocab.unk_id)
    end = np.zeros(len(begin), np.int64)
    text_begin = begin + length
    if len(begin):
        text_begin = np.minimum.reduceat(np.where(ordinary, real, batch.document_ids.size), first)
        end = np.maximum.reduceat(np.where(ordinary, real + 1, 0), first)
    lengths = np.maximum(end - text_begin, 0)
    text_begin = np.minimum(text_begin, begin + length)
    piece = np.repeat(np.arange(len(begin)), lengths)
    number = segment_arange(lengths)
    segments = Segments(piece, number, lengths, draws.reshape(-1)[text_begin[piece] + number])
    return segments, _Pieces(begin // seq_len, begin, length, text_begin)


def pair_batch(
    batch: Batch,
    vocab: VocabInfo,
    decoder_start_id: int,
    segments: Segments,
    pieces: _Pieces,
    assignment: Assignment,
) -> PairBatch:
    """Source and target of every piece, in rows."""
    n_opening = pieces.text_begin - pieces.begin
    lengths = assignment.lengths + n_opening + 1  # (2, P), with EOS
    kept = assignment.splits & (lengths.max(0) <= pieces.length)
    rows = [
        _build_rows(side, batch, vocab, segments, pieces, assignment, kept, lengths[side])
        for side in (SOURCE, TARGET)
    ]
    (source_ids, source_document_ids), (target_ids, document_ids) = rows
    begins = np.ones(target_ids.shape, np.bool_)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    input_ids = np.full_like(target_ids, decoder_start_id)
    input_ids[:, 1:] = np.where(begins[:, 1:], decoder_start_id, target_ids[:, :-1])
    loss_mask = document_ids >= 0
    packed = bool((document_ids > 0).any())
    return PairBatch(
        source_ids=source_ids,
        source_mask=source_document_ids >= 0,
        input_ids=np.where(loss_mask, input_ids, vocab.pad_id),
        target_ids=target_ids,
        loss_mask=loss_mask,
        n_counted=int(loss_mask.sum()),
        source_document_ids=source_document_ids if packed else None,
        document_ids=document_ids if packed else None,
    )


def _build_rows(
    side: int,
    batch: Batch,
    vocab: VocabInfo,
    segments: Segments,
    pieces: _Pieces,
    assignment: Assignment,
    kept: np.ndarray,
    lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One side of the kept pieces, one after another in padded rows: ids (B, T) int64, and document ids (B, T) int32."""
    assert vocab.eos_id is not None
    n_rows, flat = len(batch.input_ids), batch.input_ids.reshape(-1)
    lengths = np.where(kept, lengths, 0)
    first_of_row = np.searchsorted(pieces.row, pieces.row)
    width = int(np.bincount(pieces.row, lengths, minlength=n_rows).max(initial=1)) or 1
    column = (np.cumsum(lengths) - lengths) - (np.cumsum(lengths) - lengths)[first_of_row]
    begin = pieces.row * width + column  # (P,) in the flattened rows
    text_begin = begin + pieces.text_begin - pieces.begin
    token_ids = np.full(n_rows * width, vocab.pad_id, np.int64)
    document_ids = np.full(n_rows * width, -1, np.int32)
    number_in_row = (np.cumsum(kept) - kept) - (np.cumsum(kept) - kept)[first_of_row]
    document_ids[np.repeat(begin, lengths) + segment_arange(lengths)] = np.repeat(number_in_row, lengths)
    n_opening = np.where(kept, pieces.text_begin - pieces.begin, 0)
    step = segment_arange(n_opening)
    token_ids[np.repeat(begin, n_opening) + step] = flat[np.repeat(pieces.begin, n_opening) + step]
    chosen = (assignment.side == side) & kept[segments.piece]
    piece = segments.piece[chosen]
    token_ids[text_begin[piece] + assignment.position[chosen]] = flat[
        pieces.text_begin[piece] + segments.number[chosen]
    ]
    piece, of_side, position, inserted = assignment.inserted
    chosen = (of_side == side) & kept[piece]
    token_ids[text_begin[piece[chosen]] + position[chosen]] = inserted[chosen]
    token_ids[(begin + lengths - 1)[kept]] = vocab.eos_id
    return token_ids.reshape(n_rows, width), document_ids.reshape(n_rows, width)


def segment_arange(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ..., n - 1 for each length n, concatenated."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
