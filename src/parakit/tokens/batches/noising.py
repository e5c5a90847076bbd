"""What every source of noised text does: take a `BatchSource`'s rows, and hide a part of each, drawn from the seed
and the number of the row.

An epoch of such a source under a fixed seed meets every token of a split once and hides the same ones every
time: that is what validation measures, in nats per counted token. Bits per byte would need every token predicted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from parakit.common.seeds import rng
from parakit.tokens.batches.batch import Batch, PairBatch
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.vocab_info import VocabInfo

Noised = TypeVar("Noised", bound=Batch | PairBatch)


class NoisedSource(ABC, Generic[Noised]):
    """Rows of `source`, noised."""

    def __init__(self, source: BatchSource, facts: VocabInfo) -> None:
        self.source, self.facts = source, facts
        self.seq_len, self.seed, self.rows_per_epoch = source.seq_len, source.seed, source.rows_per_epoch

    @abstractmethod
    def noised(self, batch: Batch, first_row: int) -> Noised:
        """`batch`, whose rows are number `first_row` and following, with a part of each hidden."""

    def rows(self, start_row: int, n_rows: int) -> Noised:
        """Rows `start_row` to `start_row + n_rows - 1`; the same for the same seed, whoever asks and
        whenever.
        """
        return self.noised(self.source.rows(start_row, n_rows), start_row)

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return self.source.epoch_of(row)


def row_draws(seed: int, stream: str, first_row: int, batch: Batch, n: int = 1) -> np.ndarray:
    """Numbers in [0, 1) for every place of the rows, which are number `first_row` and following: (B, T), or (n, B, T)
    for n > 1.
    """
    n_rows, seq_len = batch.input_ids.shape
    draws = [rng(seed, stream, first_row + b).random((n, seq_len)) for b in range(n_rows)]
    return np.stack(draws, axis=1) if n > 1 else np.concatenate(draws)
