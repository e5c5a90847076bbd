"""Prefix language modelling (Liu et al. 2018; Raffel et al. 2020, section 3.2.1): a text is cut at a random position;
the prefix is given, the rest is predicted.

For an encoder-decoder the prefix is the source and the rest the target. A decoder reads both in one row: attention
within the prefix is bidirectional, after it causal, and the loss counts the tokens after the prefix.
"""

from __future__ import annotations

import numpy as np

from parakit.tokens.batches.batch import Batch, PairBatch, PrefixBatch
from parakit.tokens.batches.mixture import MixedSource
from parakit.tokens.batches.noising import NoisedSource, row_draws
from parakit.tokens.batches.pairs import SOURCE, TARGET, Assignment, Segments, pair_batch, segments_of
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.vocab_info import VocabInfo


class PrefixSource(NoisedSource[PairBatch | PrefixBatch]):
    """Rows of a `BatchSource` cut into prefixes and rests: `PairBatch` for an encoder-decoder (source with
    shift 0), `PrefixBatch` for a decoder (shift 1, and no `decoder_start_id`).
    """

    def __init__(
        self, source: BatchSource | MixedSource, vocab: VocabInfo, decoder_start_id: int | None = None
    ) -> None:
        assert source.shift == (1 if decoder_start_id is None else 0)
        if decoder_start_id is not None:
            vocab.require(("eos",), "prefixes for an encoder-decoder")
        super().__init__(source, vocab)
        self.decoder_start_id = decoder_start_id

    def add_noise(self, batch: Batch, first_row: int) -> PairBatch | PrefixBatch:
        draws = row_draws(self.seed, "prefixes", first_row, batch)
        if self.decoder_start_id is None:
            return _with_prefixes(batch, draws)
        segments, pieces = segments_of(batch, self.vocab, draws)
        return pair_batch(batch, self.vocab, self.decoder_start_id, segments, pieces, _split(segments))


def _split(segments: Segments) -> Assignment:
    """All positions to cut are equally likely; both parts keep a token. A text's first draw decides."""
    n, splits = segments.lengths, segments.lengths > 1
    prefix = np.zeros(len(n), np.int64)
    is_first = segments.number == 0
    prefix[segments.piece[is_first]] = 1 + (
        segments.draws[is_first] * (n[segments.piece[is_first]] - 1)
    ).astype(np.int64)
    rest = segments.number >= prefix[segments.piece]
    return Assignment(
        splits=splits,
        lengths=np.stack([prefix, n - prefix]),
        side=np.where(rest, TARGET, SOURCE),
        position=segments.number - np.where(rest, prefix[segments.piece], 0),
        inserted=np.zeros((4, 0), np.int64),
    )


def _with_prefixes(batch: Batch, draws: np.ndarray) -> PrefixBatch:
    """Each document's prefix has at least one token and leaves at least one to predict."""
    n_rows, seq_len = batch.input_ids.shape
    real = batch.document_ids >= 0
    document = np.where(real, batch.document_ids + np.arange(n_rows)[:, None] * seq_len, -1)[real]
    length = np.bincount(document, minlength=n_rows * seq_len)  # of each document, seq_len numbers a row
    prefix = 1 + (draws.ravel() * length).astype(np.int64)  # 1 ... length
    prefix_mask = np.zeros_like(real)
    within = np.arange(len(document)) - np.searchsorted(document, document)  # position within each piece
    prefix_mask[real] = within < prefix[document]
    last_of_prefix = np.zeros_like(real)
    last_of_prefix[real] = within == prefix[document] - 1
    loss_mask = batch.loss_mask & (~prefix_mask | last_of_prefix)
    return PrefixBatch(
        input_ids=batch.input_ids,
        target_ids=batch.target_ids,
        loss_mask=loss_mask,
        document_ids=batch.document_ids,
        position_ids=batch.position_ids,
        n_counted=int(loss_mask.sum()),
        single_document=batch.single_document,
        prefix_mask=prefix_mask,
    )
