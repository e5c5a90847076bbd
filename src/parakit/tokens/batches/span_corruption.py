"""Span corruption (Raffel et al. 2020, section 3.1.4): spans of a text are replaced by sentinels; the target is each
sentinel followed by the span that it replaces.

    Thank you for inviting me to your party last week
    source: Thank you <0> me to your party <1> week EOS      target: <0> for inviting <1> last EOS

15 % of a text are hidden, in spans of three tokens on average; lengths of hidden and of kept spans are drawn as in
T5's `random_spans_noise_mask`: all partitions are equally likely, the text begins with a kept span and ends with a
hidden one. Every document uses the sentinels from the first on.
"""

from __future__ import annotations

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.batches.batch import Batch, PairBatch
from parakit.tokens.batches.mixture import MixedSource
from parakit.tokens.batches.noising import NoisedSource, row_draws
from parakit.tokens.batches.pairs import (
    SOURCE,
    TARGET,
    Assignment,
    Segments,
    pair_batch,
    segment_arange,
    segments_of,
)
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.vocab_info import VocabInfo


class SpanCorruptionSource(NoisedSource[PairBatch]):
    """Rows of a `BatchSource` (with shift 0) as corrupted sources and their hidden spans."""

    def __init__(
        self,
        source: BatchSource | MixedSource,
        vocab: VocabInfo,
        decoder_start_id: int,
        *,
        density: float = 0.15,
        mean_span: float = 3.0,
    ) -> None:
        assert source.shift == 0, "span corruption needs unshifted rows"
        vocab.require(("eos",), "span corruption")
        if not vocab.sentinel_ids:
            raise UserError(
                "span corruption needs sentinels, and this tokenizer has no <extra_id_0>",
                "train one with n_sentinels: 100, or use the prefix objective",
            )
        super().__init__(source, vocab)
        self.decoder_start_id, self.density, self.mean_span = decoder_start_id, density, mean_span
        self._sentinels = np.array(vocab.sentinel_ids)

    def add_noise(self, batch: Batch, first_row: int) -> PairBatch:
        segments, pieces = segments_of(batch, self.vocab, row_draws(self.seed, "spans", first_row, batch))
        assignment = self._split(segments)
        return pair_batch(batch, self.vocab, self.decoder_start_id, segments, pieces, assignment)

    def _split(self, segments: Segments) -> Assignment:
        n_hidden, n_spans = span_counts(segments.lengths, self.density, self.mean_span, len(self._sentinels))
        splits, n_spans = n_spans > 0, np.maximum(n_spans, 1)  # a text too short to split is one kept span
        n_kept = segments.lengths - n_hidden
        # First order the tokens of each text with all kept ones before all hidden ones, and cut both parts into spans
        # by the draws at those positions.
        is_hidden = segments.number >= n_kept[segments.piece]
        number = segments.number - np.where(is_hidden, n_kept[segments.piece], 0)
        span = _random_parts(2 * segments.piece + is_hidden, number, segments.draws, n_spans[segments.piece])
        # Then interleave kept and hidden spans; the spans of all segments are numbered consecutively.
        first_span = np.cumsum(n_spans) - n_spans  # (P,)
        owner, span_number = np.repeat(np.arange(len(n_spans)), n_spans), segment_arange(n_spans)
        at = first_span[segments.piece] + span  # (N,)
        kept, hidden = (np.bincount(at[chosen], minlength=len(owner)) for chosen in (~is_hidden, is_hidden))
        kept_until = np.cumsum(kept) - (np.cumsum(kept) - kept)[first_span[owner]]
        hidden_before = np.cumsum(hidden) - hidden
        hidden_before -= hidden_before[first_span[owner]]
        text_number = number + np.where(is_hidden, kept_until[at], hidden_before[at])
        text_begin = np.cumsum(segments.lengths) - segments.lengths
        where = text_begin[segments.piece] + text_number  # (N,) the token's index in the batch's text
        side, position = np.empty_like(number), np.empty_like(number)
        side[where], position[where] = is_hidden, number + span + is_hidden
        sentinels = self._sentinels[span_number]
        inserted = [
            (owner, np.full_like(owner, SOURCE), kept_until + span_number, sentinels),
            (owner, np.full_like(owner, TARGET), hidden_before + span_number, sentinels),
        ]
        return Assignment(
            splits=splits,
            lengths=np.stack([n_kept, n_hidden]) + n_spans,
            side=side,
            position=position,
            inserted=np.concatenate([np.stack(one) for one in inserted], axis=1),
        )


def span_counts(
    n: np.ndarray, density: float, mean_span: float, n_sentinels: int
) -> tuple[np.ndarray, np.ndarray]:
    """(hidden tokens, spans) of segments of `n` tokens; both 0 where the text is too short to hide and to keep a token."""
    n_hidden = np.minimum(np.maximum(np.round(n * density), 1), n - 1).astype(np.int64)
    n_spans = np.maximum(np.round(n_hidden / mean_span), 1).astype(np.int64)
    max_spans = np.minimum(np.minimum(n_hidden, n - n_hidden), n_sentinels)
    return np.where(n < 2, 0, n_hidden), np.where(n < 2, 0, np.minimum(n_spans, max_spans))


def raw_seq_len(max_source_len: int, density: float = 0.15, mean_span: float = 3.0) -> int:
    """The largest `seq_len` of rows whose corrupted sources, EOS included, have at most `max_source_len` tokens."""
    n = np.arange(max_source_len, 2 * max_source_len + 2)
    while True:
        n_hidden, n_spans = span_counts(n, density, mean_span, max_source_len)
        too_long = n - n_hidden + n_spans + 1 > max_source_len
        if too_long.any():
            return int(n[np.argmax(too_long)]) - 1
        n = n + len(n)


def _random_parts(
    segment: np.ndarray, number: np.ndarray, draws: np.ndarray, n_parts: np.ndarray
) -> np.ndarray:
    """Cut every segment into `n_parts` parts of at least one token, every partition equally likely; returns the part of
    each token. All (N,); `number` counts the tokens of a segment.
    """
    is_first = number == 0
    order = np.lexsort((draws, is_first, segment))  # within each segment by draws, its first token last
    rank = np.empty_like(number)
    rank[order] = np.arange(len(order)) - np.searchsorted(segment, segment)
    n_cuts = np.cumsum(~is_first & (rank < n_parts - 1))
    return n_cuts - n_cuts[np.searchsorted(segment, segment)]
