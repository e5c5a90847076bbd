"""The rows of a text: windows of one split in a seeded order, or of its sources in the proportions of its mixture."""

from __future__ import annotations

from typing import Any

from parakit.tokens.batches.mixture import Lengths, MixedSource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.training.plan import TrainingPlan


def text_rows(data: TokenShards, plan: TrainingPlan, seed: int, shift: int = 1) -> BatchSource | MixedSource:
    """Rows of `plan.seq_len` of a split; mixed where it has sources with text."""
    if data.mixture is None or data.source_of is None:
        return BatchSource(data, plan.seq_len, seed, shift=shift)
    sources = [
        BatchSource(data, plan.seq_len, seed, shift=shift, documents=data.source_of == number)
        for number in range(len(data.mixture.names))
    ]
    return MixedSource(sources, data.mixture, lengths_of(plan))


def lengths_of(plan: TrainingPlan) -> Lengths:
    """The lengths in rows that the run of `plan` has had, each with the row from which it holds."""
    if not plan.revisions:
        return [(0, plan.rows_before(plan.max_steps))]
    lengths = []
    for number, (step, max_steps, _) in enumerate(plan.revisions):
        then = plan.replace(max_steps=max_steps, revisions=plan.revisions[: number + 1] if number else ())
        lengths.append((then.rows_before(step), then.rows_before(max_steps)))
    return lengths


def mixed_rows(source: Any) -> MixedSource | None:
    """The mixture inside of a source of rows; None where it has none."""
    if isinstance(source, MixedSource):
        return source
    inner = getattr(source, "new", None) or getattr(source, "source", None)
    return None if inner is None else mixed_rows(inner)
