"""Replay: a share of the rows comes from earlier data, so that what was learned from it is not forgotten (McCloskey
and Cohen 1989 on forgetting; Robins 1995 on rehearsal against it).

Row r is an earlier one where r times the share passes a whole number, so any stretch of n rows holds n times the share
of them, to within one row: in a step, in an epoch, whatever the batch is. Which row of either side comes follows from r
alone, and its content from the sides' own seeds: the rows stay a pure function of (seed, row number), and a resume is
exact. Both sides keep their own epochs and their own order. B rows.
"""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

import numpy as np

from parakit.tokens.batches.batch import Batch

Rows = TypeVar("Rows", bound=Batch)
Given = TypeVar("Given", bound=Batch, covariant=True)
FINEST = (
    1_000_000  # a share is a fraction with no larger denominator, so that rows are counted without rounding
)


class Side(Protocol[Given]):
    """What is mixed: `BatchSource` or one that hides a part of its rows in their places."""

    @property
    def rows_per_epoch(self) -> float:
        """Rows of one pass."""
        ...

    def rows(self, start_row: int, n_rows: int, /) -> Given:
        """A batch: the same rows for the same seed."""
        ...


class ReplayedSource(Generic[Rows]):
    """Rows of `new`, and in the places of exactly `share` of them (0 <= share < 1) rows of `earlier`. An epoch is a pass
    over `new`.
    """

    def __init__(self, new: Side[Rows], earlier: Side[Rows], share: float) -> None:
        assert 0 <= share < 1, share
        self.new, self.earlier = new, earlier
        self.share = Fraction(str(share)).limit_denominator(FINEST)
        self.rows_per_epoch = new.rows_per_epoch / float(1 - self.share)

    def n_earlier(self, row: int) -> int:
        """How many of the rows before `row` are earlier ones."""
        return row * self.share.numerator // self.share.denominator

    def is_earlier(self, start_row: int, n_rows: int) -> np.ndarray:
        """(B,) bool: which of these rows are earlier ones."""
        passed = [self.n_earlier(row) for row in range(start_row, start_row + n_rows + 1)]
        return np.diff(passed) > 0

    def rows(self, start_row: int, n_rows: int) -> Rows:
        """Rows `start_row` to `start_row + n_rows - 1`; the same for the same seeds, whoever asks and whenever."""
        earlier = self.is_earlier(start_row, n_rows)
        before, n = self.n_earlier(start_row), int(earlier.sum())
        if not n:
            return self.new.rows(start_row - before, n_rows)
        if n == n_rows:
            return self.earlier.rows(before, n)
        return _woven(self.new.rows(start_row - before, n_rows - n), self.earlier.rows(before, n), earlier)


def _woven(new: Rows, earlier: Rows, is_earlier: np.ndarray) -> Rows:
    """One batch of both, each in its order. Both are batches of one kind and one length."""
    assert type(new) is type(earlier), (type(new), type(earlier))
    values = {}
    for one in fields(new):
        ours, theirs = getattr(new, one.name), getattr(earlier, one.name)
        if isinstance(ours, np.ndarray):
            both = np.empty((len(is_earlier), *ours.shape[1:]), ours.dtype)
            both[~is_earlier], both[is_earlier] = ours, theirs
            values[one.name] = both
    return type(new)(
        **values,
        n_counted=new.n_counted + earlier.n_counted,
        single_document=new.single_document and earlier.single_document,
    )
