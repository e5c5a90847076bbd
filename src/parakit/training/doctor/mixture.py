"""Checks on rows of two sides (pitfalls 11, 14, 16, 24): mixing changes no row, counts all of both, and is the same
whenever it is read.

What each side's rows hold is examined apart, as if nothing were mixed. B rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.replay import ReplaySource
from parakit.training.doctor.batch_checks import count_differs
from parakit.training.doctor.examination import Finding
from parakit.training.doctor.tasks.row_checks import rows_change
from parakit.training.doctor.views import row_content

MOST_ROWS = 256
_HINT = "rows are not mixed as they should be; leave `replay` out, or report this as a fault of Parakit"


def examine_mixture(source: ReplaySource[Any], n_rows: int) -> list[Finding]:
    """Look at the first rows: `n_rows`, or as many as it takes to meet two earlier ones."""
    share = float(source.share)
    n = min(max(n_rows, math.ceil(2 / share) if share else 0), MOST_ROWS)
    batch = source.rows(0, n)
    looks: tuple[tuple[str, int, str, Callable[[], str | None]], ...] = (
        (
            "replayed-rows-differ",
            16,
            "Mixed rows are those of their sides",
            lambda: _rows_differ(source, batch),
        ),
        ("count-differs", 11, "Counted tokens of both sides are counted", lambda: count_differs(batch)),
        ("documents-leak", 14, "Documents in a mixed row are told apart", lambda: _unmarked(batch)),
        (
            "rows-change",
            24,
            "A mixed row is the same whenever it is read",
            lambda: rows_change(source, batch),
        ),
    )
    findings = []
    for name, pitfall, title, look in looks:
        fault = look()
        findings.append(Finding(name, title, not fault, fault or "", _HINT if fault else "", pitfall))
    return findings


def _rows_differ(source: ReplaySource[Any], batch: Batch) -> str | None:
    """A row that its side does not have at its place, or a share that is not the one asked for."""
    n_met = [0, 0]
    for row, is_replay in enumerate(source.is_replay(0, len(batch.input_ids)).tolist()):
        side = source.replay if is_replay else source.new
        own = side.rows(n_met[is_replay], 1)
        n_met[is_replay] += 1
        if not all(map(np.array_equal, row_content(own, 0), row_content(batch, row))):
            return f"row {row} is not the row of its side that comes next"
    if abs(n_met[1] - float(source.share) * sum(n_met)) >= 1:
        return f"{n_met[1]} of {sum(n_met)} rows are earlier ones, and the share is {float(source.share)}"
    return None


def _unmarked(batch: Batch) -> str | None:
    several = np.flatnonzero((batch.document_ids > 0).any(1))
    if batch.single_document and len(several):
        return f"row {several[0]} holds several documents, and the batch says that each row holds one"
    return None
