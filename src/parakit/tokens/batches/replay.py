"""Replay: a share of the rows comes from earlier data, against catastrophic forgetting (McCloskey and Cohen 1989 on
forgetting; Robins 1995 on rehearsal).

Row r is a replay row where r times the share passes an integer, so any n consecutive rows contain n times the share of
them, to within one row: in a step, in an epoch, for any batch size. Which row of either source comes next follows from
r alone: rows stay a pure function of (seed, row number), and a resume is exact. Both sources keep their own epochs and
order. B rows.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

import numpy as np

from parakit.tokens.batches.batch import Batch, BatchT, Occurrence, merge_rows
from parakit.tokens.batches.mixture import Lengths, MixedSource
from parakit.tokens.batches.noising import NoisedSource

BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)
MAX_DENOMINATOR = 1_000_000  # the share becomes a fraction, so that rows are counted without rounding


class RowProvider(Protocol[BatchT_co]):
    """A source of rows: `BatchSource`, or one that masks a part of its rows in place."""

    @property
    def rows_per_epoch(self) -> float:
        """Rows of one pass."""
        ...

    def rows(self, start_row: int, n_rows: int, /) -> BatchT_co:
        """Rows `start_row` to `start_row + n_rows - 1`, a pure function of the seed."""
        ...

    def find(self, document: int, n_rows: int, /) -> list[Occurrence]:
        """Where the first `n_rows` rows read tokens of a document."""
        ...


class ReplaySource(Generic[BatchT]):
    """Rows of `new` with exactly `share` of them (0 <= share < 1) from `replay`. An epoch is a pass over `new`."""

    def __init__(self, new: RowProvider[BatchT], replay: RowProvider[BatchT], share: float) -> None:
        assert 0 <= share < 1, share
        self.new, self.replay = new, replay
        self.share = Fraction(str(share)).limit_denominator(MAX_DENOMINATOR)
        self.rows_per_epoch = new.rows_per_epoch / float(1 - self.share)

    def n_replay_rows(self, row: int) -> int:
        """How many of the rows before `row` are replay rows."""
        return row * self.share.numerator // self.share.denominator

    def is_replay(self, start_row: int, n_rows: int) -> np.ndarray:
        """(B,) bool: which of these rows are replay rows."""
        counts = [self.n_replay_rows(row) for row in range(start_row, start_row + n_rows + 1)]
        return np.diff(counts) > 0

    def rows(self, start_row: int, n_rows: int) -> BatchT:
        """Rows `start_row` to `start_row + n_rows - 1`, a pure function of both seeds."""
        is_replay = self.is_replay(start_row, n_rows)
        start_replay, n = self.n_replay_rows(start_row), int(is_replay.sum())
        start_new = start_row - start_replay
        if not n:
            return self.new.rows(start_new, n_rows)
        if n == n_rows:
            return self.replay.rows(start_replay, n)
        return _interleave(self.new.rows(start_new, n_rows - n), self.replay.rows(start_replay, n), is_replay)

    def follow(self, lengths: Lengths) -> None:
        """Plan a mixture of the new data for the lengths that the run has had."""
        if isinstance(self.new, MixedSource | NoisedSource):
            self.new.follow([tuple(row - self.n_replay_rows(row) for row in one) for one in lengths])  # type: ignore[misc]

    def find(self, document: int, n_rows: int) -> list[Occurrence]:
        """Where the first `n_rows` rows read tokens of a document of the new data."""
        return self._placed(self.new, document, n_rows, replayed=False)

    def find_replayed(self, document: int, n_rows: int) -> list[Occurrence]:
        """Where the first `n_rows` rows read tokens of a document of the replayed data."""
        return self._placed(self.replay, document, n_rows, replayed=True)

    def _placed(
        self, source: RowProvider[BatchT], document: int, n_rows: int, replayed: bool
    ) -> list[Occurrence]:
        rows = np.flatnonzero(self.is_replay(0, n_rows) == replayed)
        return [replace(one, row=int(rows[one.row])) for one in source.find(document, len(rows))]


def _interleave(new: BatchT, replay: BatchT, is_replay: np.ndarray) -> BatchT:
    """One batch of both, each in its own order. Both are batches of one class and one row length."""
    return merge_rows([(~is_replay, new), (is_replay, replay)], len(is_replay))
