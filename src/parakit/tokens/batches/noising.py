"""The base class of masking, span corruption and prefixes: takes the rows of a `BatchSource` and hides a part of each,
drawn from the seed and the row number.

With a fixed seed an epoch covers every token of a split once and hides the same ones every time: validation measures
that, in nats per counted token. Bits per byte would need a prediction of every token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from parakit.common.seeds import rng
from parakit.tokens.batches.batch import Batch, Occurrence, PairBatch
from parakit.tokens.batches.mixture import Lengths, MixedSource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.vocab_info import VocabInfo

NoisedBatch = TypeVar("NoisedBatch", bound=Batch | PairBatch)


class NoisedSource(ABC, Generic[NoisedBatch]):
    """Rows of `source` with noise."""

    def __init__(self, source: BatchSource | MixedSource, vocab: VocabInfo) -> None:
        self.source, self.vocab = source, vocab
        self.seq_len, self.seed, self.rows_per_epoch = source.seq_len, source.seed, source.rows_per_epoch

    @abstractmethod
    def add_noise(self, batch: Batch, first_row: int) -> NoisedBatch:
        """`batch`, whose first row has number `first_row`, with a part of each row hidden."""

    def rows(self, start_row: int, n_rows: int) -> NoisedBatch:
        """Rows `start_row` to `start_row + n_rows - 1`, a pure function of the seed."""
        return self.add_noise(self.source.rows(start_row, n_rows), start_row)

    def follow(self, lengths: Lengths) -> None:
        """Plan a mixture for the lengths that the run has had."""
        if isinstance(self.source, MixedSource):
            self.source.follow(lengths)

    def find(self, document: int, n_rows: int) -> list[Occurrence]:
        """Where the first `n_rows` rows have tokens of a document, before noising."""
        return self.source.find(document, n_rows)

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return self.source.epoch_of(row)


def row_draws(seed: int, stream: str, first_row: int, batch: Batch, n: int = 1) -> np.ndarray:
    """Random numbers in [0, 1) for every position of the rows, numbered from `first_row`: (B, T), or (n, B, T) for n > 1."""
    n_rows, seq_len = batch.input_ids.shape
    draws = [rng(seed, stream, first_row + b).random((n, seq_len)) for b in range(n_rows)]
    return np.stack(draws, axis=1) if n > 1 else np.concatenate(draws)
