"""Checks on batches of tokens (pitfalls 1, 11, 14, 16): shifted once, documents told apart, padding uncounted.

Each function takes what it looks at and returns the fault in words, or None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parakit.tokens.batches import source as token_batches
from parakit.tokens.batches.batch import Batch
from parakit.tokens.shards import TokenShards
from parakit.training.doctor.turns import Stretch, breaks, runs

MAX_SEARCHED_TOKENS = 5_000_000


def loss_on_padding(batch: Batch, pad_id: int | None) -> str | None:
    """Padding that counts."""
    padding = batch.document_ids < 0
    if pad_id is not None:
        padding |= batch.target_ids == pad_id
    n = int((batch.loss_mask & padding).sum())
    return f"{n} of {int(batch.loss_mask.sum())} counted targets are padding" if n else None


def count_differs(batch: Batch) -> str | None:
    """The number that the loss is divided by is not the number of counted tokens."""
    n = int(batch.loss_mask.sum())
    return f"n_counted says {batch.n_counted}, the loss mask counts {n}" if n != batch.n_counted else None


def targets_shift(batch: Batch) -> str | None:
    """Targets that are not the inputs moved by one."""
    inputs, targets, documents = batch.input_ids, batch.target_ids, batch.document_ids
    within = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
    right = float((targets[:, :-1] == inputs[:, 1:])[within].mean()) if within.any() else 1.0
    if right > 0.5:  # single breaks in the text are documents that are not told apart: another check's matter
        return None
    real = documents >= 0
    if (inputs == targets)[real].mean() > 0.9:
        return "targets are the inputs themselves: not shifted at all"
    twice = (documents[:, 2:] == documents[:, :-2]) & (documents[:, 2:] >= 0)
    if twice.any() and (targets[:, :-2] == inputs[:, 2:])[twice].mean() > 0.9:
        return "targets lie two tokens ahead: shifted twice"
    return f"only {right:.0%} of the targets are the next input"


def rows_not_in_data(stretches: Sequence[Stretch], shards: TokenShards, most: int = 8) -> str | None:
    """Rows, last target included, that are no part of the data. Not looked for in very large splits."""
    if shards.n_tokens > MAX_SEARCHED_TOKENS:
        return None
    data = np.asarray(shards.token_ids)
    for wanted in sorted((stretch.token_ids for stretch in stretches), key=len, reverse=True)[:most]:
        if not len(_places(data, wanted)):
            but = (
                "only its last target is not"
                if len(_places(data, wanted[:-1]))
                else "not even without its last target"
            )
            return f"a piece of {len(wanted)} tokens of the first batch does not stand in the shards ({but})"
    return None


def _places(data: np.ndarray, wanted: list[int]) -> np.ndarray:
    places = np.flatnonzero(data[: max(len(data) - len(wanted) + 1, 0)] == wanted[0])
    for i, token_id in enumerate(wanted):
        places = places[data[places + i] == token_id]
    return places


def documents_unmarked(batch: Batch, bos_id: int | None) -> str | None:
    """Documents that meet in a row under one document id, or a row of several that is said to hold one."""
    for row in range(len(batch.input_ids)):
        edges = breaks(batch, row, bos_id)
        for column in edges:
            if batch.document_ids[row, column] == batch.document_ids[row, column - 1]:
                return f"row {row}: another document begins at column {column}, and the document id stays the same"
        if edges and batch.single_document:
            return f"row {row} holds {len(edges) + 1} documents, and the batch says that each row holds one"
    return None


def positions_run_on(batch: Batch) -> str | None:
    """Positions that do not begin at 0 with each document and go up by one."""
    for row in range(len(batch.input_ids)):
        for begin, end in runs(batch.document_ids[row]):
            positions = batch.position_ids[row, begin:end]
            if batch.document_ids[row, begin] >= 0 and (positions != np.arange(end - begin)).any():
                return f"row {row}: the document at column {begin} has positions {positions[0]} to {positions[-1]}"
    return None


def rank_rows_overlap(n_rows: int) -> str | None:
    """Ranks that take a row twice, or leave one out."""
    for world_size in (1, 2, 3, 4):
        taken: list[int] = []
        for rank in range(world_size):
            first, n = token_batches.rank_rows(2, n_rows, rank, world_size)
            taken += range(first, first + n)
        if taken != list(range(2 * n_rows, 3 * n_rows)):
            return f"{world_size} ranks do not share a step's {n_rows} rows without overlap or gap"
    return None
