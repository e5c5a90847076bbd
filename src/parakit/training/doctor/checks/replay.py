"""Rows of two sources: mixing changes no row and keeps the share. The sources themselves are checked alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.replay import ReplaySource
from parakit.training.doctor.batch_views import row_content
from parakit.training.doctor.registry import check

MAX_ROWS = 256


@dataclass(frozen=True)
class ReplayContext:
    """A mixture of rows; `n_rows` of a step."""

    source: ReplaySource[Any]
    n_rows: int
    checked_as: tuple[str, ...] = ("replay",)

    @cached_property
    def batch(self) -> Batch:
        """The first rows: those of a step, or as many as it takes to reach two replayed ones."""
        share = float(self.source.share)
        return self.source.rows(0, min(max(self.n_rows, math.ceil(2 / share) if share else 0), MAX_ROWS))


@check(
    "replayed-rows-differ",
    subject="Replay",
    applies_to=("replay",),
    prevents="Mixing changes rows, repeats them, or replays another share of earlier data than was set.",
    noticed_by="Every row of the first mixed batch is compared with the next row of its source.",
    remedy="Leave `replay` out, or report this as a bug of Parakit.",
)
def replayed_rows_differ(context: ReplayContext) -> str | None:
    source, batch = context.source, context.batch
    n_read = [0, 0]
    for row, is_replay in enumerate(source.is_replay(0, len(batch.input_ids)).tolist()):
        own_source = source.replay if is_replay else source.new
        own = own_source.rows(n_read[is_replay], 1)
        n_read[is_replay] += 1
        if not all(map(np.array_equal, row_content(own, 0), row_content(batch, row))):
            return f"row {row} is not the next row of its source"
    if abs(n_read[1] - float(source.share) * sum(n_read)) >= 1:
        return f"{n_read[1]} of {sum(n_read)} rows are replayed, and the share is {float(source.share)}"
    return None
