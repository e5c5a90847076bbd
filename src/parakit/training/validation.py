"""The validation loss of any objective: the sum over a split, divided by its counted tokens or examples.

It does not depend on the batch size, except for contrastive losses, whose negatives are those of the batch. A noising
source with a fixed seed masks the same tokens every time, so that losses can be compared. `evaluation.perplexity` computes
bits per byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.batches.batch import AnyBatch
from parakit.training.micro_batches import Objective, to_micro_batch


@dataclass(frozen=True)
class ValidationLoss:
    """`loss` is the objective's, per counted token or example."""

    loss: float
    n_counted: int


@torch.inference_mode()
def validation_loss(model: nn.Module, batches: Iterable[AnyBatch], objective: Objective) -> ValidationLoss:
    """Run `model` in evaluation mode over batches of numpy arrays. A loss that is not finite is a `UserError`."""
    device = next(model.parameters()).device
    total, n_counted, mode = 0.0, 0, model.training
    model.eval()
    try:
        for batch in batches:
            if batch.n_counted:
                total += float(objective(model, to_micro_batch(batch, device)))
                n_counted += batch.n_counted
    finally:
        model.train(mode)
    if n_counted == 0:
        raise UserError("nothing in the validation split counts", "give it more text or examples")
    if not math.isfinite(total):
        raise UserError(f"the model's loss is {total}", "its weights are damaged, or its training diverged")
    return ValidationLoss(total / n_counted, n_counted)


def one_epoch(source: Any, rows_per_batch: int, max_rows: int | None = None) -> Iterator[Any]:
    """The batches of one pass over a split, at most `max_rows` rows; the same ones every time."""
    n_rows = math.ceil(source.rows_per_epoch)
    if max_rows is not None:
        n_rows = min(n_rows, max_rows)
    for start in range(0, n_rows, rows_per_batch):
        yield source.rows(start, min(rows_per_batch, n_rows - start))


def with_forgetting(result: Mapping[str, Any], before: Mapping[str, Any]) -> JsonObject:
    """`result` with `forgetting`: the rise of the loss on replayed data since before the first step."""
    if "earlier_loss" not in result:
        return dict(result)
    return {**result, "forgetting": result["earlier_loss"] - before["earlier_loss"]}
