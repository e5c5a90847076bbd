"""Batches: documents are separated, rows come from the data, counts are right, and rows repeat exactly."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from parakit.tokens.batches import source as batch_source
from parakit.tokens.batches.batch import Batch, MaskedBatch
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import loss_positions, n_rows, row_content
from parakit.training.doctor.checks.replay import ReplayContext
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.row_formats import ALL, DECODER
from parakit.training.doctor.turn_markers import boundaries, segments

check = partial(registry.check, subject="Batches")
MAX_SEARCHED_TOKENS, MAX_SEARCHED_SPANS = 5_000_000, 8
_SOURCE = "Use Parakit's own batch source, or report this as a bug of Parakit."


@check(
    "documents-not-separated",
    applies_to=(*DECODER, "masked_text", "replay"),
    prevents="Packed documents share a document id, so they attend to each other and positions continue.",
    noticed_by="Boundaries are derived from the tokens of the first batch and compared with its document ids.",
    remedy="Give each document of a row its own document id. " + _SOURCE,
    sources=("trl #1230", "axolotl PR #3796"),
)
def documents_not_separated(context: Any) -> str | None:
    batch = context.batch
    if isinstance(context, ReplayContext):
        return _several_in_single(batch)
    if isinstance(batch, MaskedBatch):
        return _masked_not_separated(batch, context.tokenizer.cls_id)
    for row in range(len(batch.input_ids)):
        starts = boundaries(batch, row, context.document_start)
        for column in starts:
            if batch.document_ids[row, column] == batch.document_ids[row, column - 1]:
                return f"row {row}: another document begins at column {column} with the same document id"
        if starts and batch.single_document:
            return f"row {row} has {len(starts) + 1} documents, and the batch is marked single_document"
    return None


def _several_in_single(batch: Batch) -> str | None:
    several = np.flatnonzero((batch.document_ids > 0).any(1))
    if batch.single_document and len(several):
        return f"row {several[0]} has several documents, and the batch is marked single_document"
    return None


def _masked_not_separated(batch: MaskedBatch, cls_id: int | None) -> str | None:
    opens = (batch.target_ids[:, 1:] == cls_id) & (batch.document_ids[:, 1:] >= 0)
    lost = opens & (batch.document_ids[:, 1:] == batch.document_ids[:, :-1])
    if cls_id is not None and lost.any():
        row, column = np.argwhere(lost)[0]
        return f"row {row}: another text begins at column {column + 1} with the same document id"
    if batch.single_document and (batch.document_ids != 0).any():
        return "rows have padding or several texts, and the batch is marked single_document"
    return None


@check(
    "positions-not-reset",
    applies_to=(*DECODER, "masked_text"),
    prevents="Positions continue across packed documents, so a document is read as it never is alone.",
    noticed_by="The positions of every document of the first batch must be 0, 1, 2 and so on.",
    remedy="Restart position_ids with each document. " + _SOURCE,
    sources=("trl #1230", "axolotl PR #3796"),
)
def positions_not_reset(context: CheckContext) -> str | None:
    batch = context.batch
    for row in range(len(batch.input_ids)):
        for begin, end in segments(batch.document_ids[row]):
            positions = batch.position_ids[row, begin:end]
            if batch.document_ids[row, begin] >= 0 and (positions != np.arange(end - begin)).any():
                return f"row {row}: the document at column {begin} has positions {positions[0]} to {positions[-1]}"
    return None


@check(
    "rows-not-in-data",
    applies_to=DECODER,
    prevents="Rows have tokens, often the last target, that do not follow each other in the data.",
    noticed_by="The longest spans of the first batch are searched for in the shards, where these are not too large.",
    remedy=_SOURCE,
)
def rows_not_in_data(context: CheckContext) -> str | None:
    if context.shards.n_tokens > MAX_SEARCHED_TOKENS:
        return None
    data = np.asarray(context.shards.token_ids)
    spans = sorted((span.token_ids for span in context.row_spans), key=len, reverse=True)
    for ids in spans[:MAX_SEARCHED_SPANS]:
        if not len(_occurrences(data, ids)):
            only_last = len(_occurrences(data, ids[:-1]))
            how = "only its last target is not" if only_last else "nor without its last target"
            return f"a span of {len(ids)} tokens of the first batch is not in the shards ({how})"
    return None


def _occurrences(data: np.ndarray, token_ids: list[int]) -> np.ndarray:
    """Places of `data` at which the ids begin."""
    places = np.flatnonzero(data[: max(len(data) - len(token_ids) + 1, 0)] == token_ids[0])
    for i, token_id in enumerate(token_ids):
        places = places[data[places + i] == token_id]
    return places


@check(
    "count-differs",
    applies_to=(*ALL, "replay"),
    prevents="The loss is divided by another number than that of its counted targets: the learning rate is wrong, and"
    " differs by batch.",
    noticed_by="The n_counted of the first batch is compared with its loss mask, or with its rows where whole rows count.",
    remedy=_SOURCE,
    sources=("transformers PR #34191",),
)
def count_differs(context: Any) -> str | None:
    batch = context.batch
    mask = getattr(batch, "loss_mask", None)
    n = n_rows(batch) if mask is None or loss_positions(batch) is None else int(mask.sum())
    return None if n == batch.n_counted else f"n_counted is {batch.n_counted}, and {n} count"


@check(
    "rows-change",
    applies_to=(*ALL, "replay"),
    prevents="A row depends on what was read before it, so a resumed run repeats some rows and skips others.",
    noticed_by="The first batch is read again in two parts and compared row by row.",
    remedy="Make a row a pure function of seed and row number. " + _SOURCE,
    sources=("transformers PR #40691",),
)
def rows_change(context: Any) -> str | None:
    batch = context.batch
    n = n_rows(batch)
    cut = max(1, n // 3)
    for begin, end in [(0, cut), (cut, n)] if n > cut else [(0, n)]:
        part = context.source.rows(begin, end - begin)
        for row in range(end - begin):
            again, before = row_content(part, row), row_content(batch, begin + row)
            if not all(map(np.array_equal, again, before)):
                return f"row {begin + row} differs when it is read again in two parts"
    return None


@check(
    "rank-rows",
    applies_to=ALL,
    prevents="Data-parallel ranks train on the same rows, or some rows are never used.",
    noticed_by="The rows of one step are assigned to 1, 2, 3 and 4 ranks; each row must come once.",
    remedy="Assign rows with batch_source.rank_rows.",
)
def rows_by_rank(context: CheckContext) -> str | None:
    n = context.plan.n_rows
    for world_size in (1, 2, 3, 4):
        assigned: list[int] = []
        for rank in range(world_size):
            first, n_own = batch_source.rank_rows(2, n, rank, world_size)
            assigned += range(first, first + n_own)
        if assigned != list(range(2 * n, 3 * n)):
            return f"{world_size} ranks do not share a step's {n} rows without overlap or gap"
    return None
