"""Packing two documents into one row leaves their losses as they are alone.

`documents-leak` looks at a dozen tokens. This check takes two documents of a real row, as long as time allows, and the
run's own objective: a window, a chunk of a kernel or a state that only begins to leak further on changes the loss.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from parakit.tokens.batches.batch import Batch, PairBatch
from parakit.training.doctor.batch_views import arrays, micro_batch
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.probes import with_loss_mask
from parakit.training.doctor.registry import check
from parakit.training.doctor.row_formats import DECODER, SEQUENCES

MAX_COLUMNS = 160  # of each document
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2  # of the loss; sums of other orders differ by 1e-6 in float32


@check(
    "packing-changes-loss",
    subject="Attention",
    applies_to=(*DECODER, *SEQUENCES),
    prevents="Packing changes the loss of this architecture: a document is trained on as it is never read alone.",
    noticed_by="Two documents of the first packed row are put into one row and run alone; the losses must add up.",
    remedy="Train with one document a row, or report this as a bug of Parakit; the model must keep packed documents apart.",
    sources=("axolotl #3453", "axolotl #3301", "LLaMA-Factory #8277"),
    runs_model=True,
    passes=8.0,
)
@torch.no_grad()
def packing_changes_loss(context: CheckContext) -> str | None:
    model, both = context.model, _two_documents(context.batch)
    if both is None:
        return None

    def loss(batch: Any) -> float:
        return float(context.objective(model, micro_batch(model, batch)))

    packed, alone = loss(both), [loss(_only(both, number)) for number in (0, 1)]
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    limit = (HALF_TOLERANCE if half else TOLERANCE) * max(1e-6, sum(map(abs, alone)))
    if abs(packed - sum(alone)) <= limit:
        return None
    return f"two documents have a loss of {packed:.6g} in one row, and {alone[0]:.6g} + {alone[1]:.6g} alone"


def _two_documents(batch: Any) -> Any | None:
    """The beginnings of two neighbouring documents of the first row that has two with counted targets; None: there is
    no such row.
    """
    numbers = getattr(batch, "document_ids", None)
    if numbers is None:
        return None
    for row in range(len(numbers)):
        counted = np.unique(numbers[row][batch.loss_mask[row] & (numbers[row] >= 0)])
        for one, other in pairwise(counted):
            if other == one + 1 and (both := _cut(batch, row, int(one))) is not None:
                return both
    return None


def _cut(batch: Any, row: int, first: int) -> Any | None:
    """Documents `first` and `first + 1` of a row as a batch of one row, numbered 0 and 1; None where the beginning of
    one counts nothing.
    """
    columns = {
        side: np.concatenate([np.flatnonzero(ids[row] == first + k)[:MAX_COLUMNS] for k in (0, 1)])
        for side, ids in _numbers(batch).items()
    }
    parts = {name: value[row : row + 1][:, columns[_side(name)]] for name, value in arrays(batch).items()}
    for name in ("document_ids", "source_document_ids"):
        if name in parts:
            parts[name] = parts[name] - first
    both = with_loss_mask(replace(batch, **parts))
    has_counted = [both.loss_mask[both.document_ids == number].any() for number in (0, 1)]
    return both if all(has_counted) else None


def _only(both: Any, number: int) -> Any:
    """One of the two documents, in a row of its own."""
    columns = {side: np.flatnonzero(ids[0] == number) for side, ids in _numbers(both).items()}
    parts = {name: value[:, columns[_side(name)]] for name, value in arrays(both).items()}
    for name in ("document_ids", "source_document_ids"):
        if name in parts:
            parts[name] = np.zeros_like(parts[name])
    single = {} if isinstance(both, PairBatch) else {"single_document": True}
    return with_loss_mask(replace(both, **parts, **single))


def _numbers(batch: Batch | PairBatch) -> dict[str, np.ndarray]:
    """The document ids of each side of a batch, (B, T)."""
    assert batch.document_ids is not None
    sides = {"": batch.document_ids}
    if isinstance(batch, PairBatch):
        assert batch.source_document_ids is not None
        sides["source"] = batch.source_document_ids
    return sides


def _side(name: str) -> str:
    return "source" if name.startswith("source") else ""
