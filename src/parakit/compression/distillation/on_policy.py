"""On-policy distillation: the teacher scores completions that the student samples (Agarwal et al. 2024, "GKD"), so
the student learns in the states that it reaches, not only in those of the data.

In a share of the rows, one assistant's turn of each conversation is replaced by the student's answer to what precedes it.
The rows, turns and sampling seeds are a pure function of the seed and the row; the answers also depend on the student's
weights at that step, so a resumed run has the same rows.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import derive_seed, rng
from parakit.compression.distillation.micro_batches import UnlabelledBatch, fields_of
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.model.heads import LanguageModel
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.source import BatchSource
from parakit.training.compilation import without_compiled_code


@dataclass(frozen=True)
class _Turn:
    """A conversation up to one assistant's turn, and its row of the batch."""

    row: int
    prompt: list[int]
    seed: int


class OnPolicyDistillationSource:
    """Rows of `source`, a share of which the current `student` answers."""

    def __init__(
        self,
        source: BatchSource,
        student: LanguageModel,
        stop_ids: Collection[int],
        *,
        share: float,
        sampling: SamplingConfig,
    ) -> None:
        if source.packing != "pack" or source.shards.loss_mask is None:
            raise UserError(
                f"on_policy_share = {share}: plain text has no questions for the student to answer",
                "distil on conversations, or leave on_policy_share at 0",
            )
        assert 0 <= share <= 1
        self.source, self.student, self.stop_ids = source, student, frozenset(stop_ids)
        self.share, self.sampling = share, sampling
        self.seed, self.seq_len, self.rows_per_epoch = source.seed, source.seq_len, source.rows_per_epoch

    def rows(self, start_row: int, n_rows: int) -> UnlabelledBatch:
        """Rows `start_row` to `start_row + n_rows - 1`; a pure function of the seed and the student's weights."""
        batch = self.source.rows(start_row, n_rows)
        chosen = [row for row in range(n_rows) if self._draw("on policy", start_row + row) < self.share]
        turns = [turn for row in chosen for turn in self._turns(batch, row, start_row + row)]
        new_batch = UnlabelledBatch(**_copy_fields(batch), unlabelled=np.zeros_like(batch.loss_mask))
        by_row: dict[int, list[tuple[list[int], list[int]]]] = {}
        for turn, answer in zip(turns, self._answers(turns), strict=True):
            by_row.setdefault(turn.row, []).append((turn.prompt, answer))
        for row, answered in by_row.items():
            self._write(new_batch, row, answered)
        numbers = new_batch.document_ids
        return UnlabelledBatch(
            **fields_of(new_batch)
            | {"n_counted": int(new_batch.loss_mask.sum()), "single_document": bool((numbers <= 0).all())},
            unlabelled=new_batch.unlabelled,
        )

    def epoch_of(self, row: int) -> float:
        """Epochs before `row`."""
        return self.source.epoch_of(row)

    def _draw(self, stream: str, *labels: int) -> float:
        return float(rng(self.seed, stream, *labels).random())

    def _turns(self, batch: Batch, row: int, number: int) -> list[_Turn]:
        """One assistant's turn of each conversation of a row."""
        turns = []
        for document in range(int(batch.document_ids[row].max()) + 1):
            at = np.flatnonzero(batch.document_ids[row] == document)
            tokens = [int(batch.input_ids[row, at[0]]), *batch.target_ids[row, at].tolist()]
            counted = np.concatenate([[False], batch.loss_mask[row, at]])
            turn_starts = np.flatnonzero(counted[1:] & ~counted[:-1]) + 1
            if len(turn_starts):
                begin = turn_starts[int(self._draw("turn", number, document) * len(turn_starts))]
                seed = derive_seed(self.seed, "answer", number, document) % 2**63
                turns.append(_Turn(row, tokens[:begin], seed))
        return turns

    def _answers(self, turns: list[_Turn]) -> list[list[int]]:
        if not turns:
            return []
        prompts, seeds = [turn.prompt for turn in turns], [turn.seed for turn in turns]
        with without_compiled_code(self.student):  # each prompt length would be compiled again
            answers = generate_ids(self.student, prompts, self.sampling, self.stop_ids, seeds=seeds)
        max_tokens = self.seq_len + 1
        return [answer[: max_tokens - len(turn.prompt)] for turn, answer in zip(turns, answers, strict=True)]

    def _write(self, batch: UnlabelledBatch, row: int, answered: list[tuple[list[int], list[int]]]) -> None:
        """Fill a row with prompts and answers, as many as fit."""
        pad_id = self.source.shards.pad_id or 0
        fills = {"input_ids": pad_id, "target_ids": pad_id, "document_ids": -1, "position_ids": 0}
        for name in ("loss_mask", "unlabelled"):
            getattr(batch, name)[row] = False
        for name, fill in fills.items():
            getattr(batch, name)[row] = fill
        column = document = 0
        for prompt, answer in answered:
            tokens = [*prompt, *answer]
            places = slice(column, column + len(tokens) - 1)
            if places.stop > self.seq_len:
                continue
            batch.input_ids[row, places], batch.target_ids[row, places] = tokens[:-1], tokens[1:]
            batch.document_ids[row, places] = document
            batch.position_ids[row, places] = np.arange(len(tokens) - 1)
            own = slice(column + len(prompt) - 1, places.stop)
            batch.loss_mask[row, own] = batch.unlabelled[row, own] = True
            column, document = places.stop, document + 1


def _copy_fields(batch: Batch) -> dict[str, Any]:
    """The fields with writable copies of the arrays."""
    return {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in fields_of(batch).items()
    }
