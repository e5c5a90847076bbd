"""From rows of documents to rows of pairs: each piece of a document gives one source and one target, which stand
side by side in their rows as the pieces did.

Every source and every target ends with EOS, and the inputs of every target begin with the start id, so that a
packed pair reads exactly as it would alone. A pair that would take more room than the piece it comes from (a
window of a few tokens) is left out: no row of pairs is longer than the row of text it was made of.
All pieces of a batch are worked on at once: a loop over them would cost more than a step of a small model.
Shapes: B rows, T tokens, P pieces, N tokens of text in all of them, E inserted tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parakit.tokens.batches.batch import Batch, PairBatch
from parakit.tokens.batches.vocab_info import VocabInfo

SOURCE, TARGET = 0, 1


@dataclass(frozen=True)
class Texts:
    """The text of every piece, without what opens or closes its document."""

    piece: np.ndarray  # (N,) which piece a token belongs to, ascending
    number: np.ndarray  # (N,) 0, 1, ... within each piece
    lengths: np.ndarray  # (P,)
    draws: np.ndarray  # (N,) in [0, 1), a number of its own for each token


@dataclass(frozen=True)
class Sides:
    """Where every token of `Texts` goes."""

    splits: np.ndarray  # (P,) bool, False: too short for two sides
    lengths: np.ndarray  # (2, P) tokens of each side
    side: np.ndarray  # (N,) SOURCE or TARGET
    place: np.ndarray  # (N,) within its side
    inserted: np.ndarray  # (4, E) piece, side, place and id of tokens that are no text


@dataclass(frozen=True)
class _Pieces:
    """Pieces of documents in a batch, as places in its flattened rows."""

    row: np.ndarray  # (P,)
    begin: np.ndarray  # (P,) first token
    length: np.ndarray  # (P,)
    text_begin: np.ndarray  # (P,) first token of text; before it stands what opens a document (BART's BOS)


def texts_of(batch: Batch, facts: VocabInfo, draws: np.ndarray) -> tuple[Texts, _Pieces]:
    """All pieces of `batch` and their texts. `draws` (B, T) in [0, 1)."""
    real = np.flatnonzero(batch.document_ids >= 0)  # places in the flattened rows
    seq_len = batch.document_ids.shape[1]
    owner = (
        batch.document_ids.reshape(-1)[real] + real // seq_len * seq_len
    )  # a number for each row and document
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    begin, length = real[first], np.diff(np.append(first, len(real)))
    token_ids = batch.input_ids.reshape(-1)[real]
    ordinary = ~facts.special[token_ids] | (token_ids == facts.unk_id)
    end = np.zeros(len(begin), np.int64)
    text_begin = begin + length
    if len(begin):
        text_begin = np.minimum.reduceat(np.where(ordinary, real, batch.document_ids.size), first)
        end = np.maximum.reduceat(np.where(ordinary, real + 1, 0), first)
    lengths = np.maximum(end - text_begin, 0)
    text_begin = np.minimum(text_begin, begin + length)
    piece = np.repeat(np.arange(len(begin)), lengths)
    number = counting_up(lengths)
    texts = Texts(piece, number, lengths, draws.reshape(-1)[text_begin[piece] + number])
    return texts, _Pieces(begin // seq_len, begin, length, text_begin)


def pair_batch(
    batch: Batch, facts: VocabInfo, decoder_start_id: int, texts: Texts, pieces: _Pieces, sides: Sides
) -> PairBatch:
    """Both sides of every piece, laid out in rows."""
    n_opening = pieces.text_begin - pieces.begin
    lengths = sides.lengths + n_opening + 1  # (2, P), with EOS
    kept = sides.splits & (lengths.max(0) <= pieces.length)
    rows = [
        _laid_out(side, batch, facts, texts, pieces, sides, kept, lengths[side]) for side in (SOURCE, TARGET)
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
        input_ids=np.where(loss_mask, input_ids, facts.pad_id),
        target_ids=target_ids,
        loss_mask=loss_mask,
        n_counted=int(loss_mask.sum()),
        source_document_ids=source_document_ids if packed else None,
        document_ids=document_ids if packed else None,
    )


def _laid_out(
    side: int,
    batch: Batch,
    facts: VocabInfo,
    texts: Texts,
    pieces: _Pieces,
    sides: Sides,
    kept: np.ndarray,
    lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One side of the pieces that are kept, one after the other in padded rows: ids (B, T) int64, and which piece of
    its row each belongs to (B, T) int32.
    """
    assert facts.eos_id is not None
    n_rows, flat = len(batch.input_ids), batch.input_ids.reshape(-1)
    lengths = np.where(kept, lengths, 0)
    first_of_row = np.searchsorted(pieces.row, pieces.row)
    width = int(np.bincount(pieces.row, lengths, minlength=n_rows).max(initial=1)) or 1
    column = (np.cumsum(lengths) - lengths) - (np.cumsum(lengths) - lengths)[first_of_row]
    begin = pieces.row * width + column  # (P,) in the flattened rows
    text_begin = begin + pieces.text_begin - pieces.begin
    token_ids = np.full(n_rows * width, facts.pad_id, np.int64)
    document_ids = np.full(n_rows * width, -1, np.int32)
    number_in_row = (np.cumsum(kept) - kept) - (np.cumsum(kept) - kept)[first_of_row]
    document_ids[np.repeat(begin, lengths) + counting_up(lengths)] = np.repeat(number_in_row, lengths)
    n_opening = np.where(kept, pieces.text_begin - pieces.begin, 0)
    step = counting_up(n_opening)
    token_ids[np.repeat(begin, n_opening) + step] = flat[np.repeat(pieces.begin, n_opening) + step]
    chosen = (sides.side == side) & kept[texts.piece]
    piece = texts.piece[chosen]
    token_ids[text_begin[piece] + sides.place[chosen]] = flat[pieces.text_begin[piece] + texts.number[chosen]]
    piece, of_side, place, inserted = sides.inserted
    chosen = (of_side == side) & kept[piece]
    token_ids[text_begin[piece[chosen]] + place[chosen]] = inserted[chosen]
    token_ids[(begin + lengths - 1)[kept]] = facts.eos_id
    return token_ids.reshape(n_rows, width), document_ids.reshape(n_rows, width)


def counting_up(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... for each length in turn."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
