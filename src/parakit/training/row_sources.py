"""Sources of rows: a fixed data set, or the model in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


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

    def resumable_at(self, step: int) -> bool:
        """Whether a run can resume exactly after `step` steps. Called after each step."""
        ...

    def state(self) -> dict[str, Any]:
        """The state to resume from, as JSON values."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `state` returned."""
        ...
