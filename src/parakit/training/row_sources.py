"""Sources of rows: a text, the examples of a fixed set, or the model in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from parakit.common.processes import FigureSum
from parakit.tokens.batches.mixture import Lengths, MixedSource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.training.plan import TrainingPlan


class RowSource(Protocol):
    """Rows of a training split in an endless seeded order: windows of text, or examples."""

    @property
    def rows_per_epoch(self) -> float:
        """Rows of one pass over the split."""
        ...

    def rows(self, start_row: int, n_rows: int, /) -> Any:
        """A batch of numpy arrays: a pure function of the seed and the row numbers."""
        ...


@runtime_checkable
class PlannedSource(Protocol):
    """A `RowSource` whose rows depend on the length of the run."""

    def follow(self, lengths: Sequence[tuple[int, int]], /) -> None:
        """Plan the rest of the run for the lengths that it has had: from which row on, and how many rows in all."""
        ...


@runtime_checkable
class RolloutSource(Protocol):
    """A `RowSource` whose rows are sampled from the model in training, a phase of several steps at a time."""

    def resumable_at(self, step: int, sum_figures: FigureSum = dict) -> bool:
        """Whether a run can resume exactly after `step` steps. Called after each step, by all processes."""
        ...

    def state(self) -> dict[str, Any]:
        """The state to resume from, as JSON values."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `state` returned."""
        ...


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
