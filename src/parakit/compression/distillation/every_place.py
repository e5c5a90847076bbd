"""Prompts as lessons: in a conversation only the answers have labels, but a teacher has an opinion of every token.

All real places count, and those that did not before are told by the teacher alone. So a student that has lost layers
learns to read again, from three or four times as many places.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parakit.compression.distillation.micro_batches import UnlabelledBatch, fields_of


class EveryPlace:
    """Rows of `source`, counted everywhere but in padding."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.seed, self.seq_len, self.rows_per_epoch = source.seed, source.seq_len, source.rows_per_epoch

    def rows(self, start_row: int, n_rows: int) -> UnlabelledBatch:
        """Rows `start_row` to `start_row + n_rows - 1`; the same whenever the source's are."""
        batch = self.source.rows(start_row, n_rows)
        unlabelled, real = ~batch.loss_mask, batch.document_ids >= 0
        if isinstance(batch, UnlabelledBatch):
            unlabelled |= batch.unlabelled
        found = UnlabelledBatch(**fields_of(batch), unlabelled=unlabelled & real)
        return replace(found, loss_mask=real, n_counted=int(real.sum()))

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return self.source.epoch_of(row)
