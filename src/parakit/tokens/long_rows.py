"""Rows that are longer than their limit: cut, left out or refused, and counted. The one place that decides it, for
conversations, examples of a task, rankings, and prompts.

A row of which no counted token is left within the limit teaches nothing: it is left out and counted, whatever is set.
The caller cuts the rows that stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.config import LongRowRule

WayOut = Callable[[int, int], str | None]
"""From the length that takes every row whole, and the shortest that leaves something to learn: what to set, or None where
no setting helps."""


@dataclass(frozen=True)
class RowKind:
    """How rows of one kind are called."""

    name: str
    """Plural: "conversations"."""
    counted: str
    """What of them is learned, plural: "answers"."""
    other: str = "cut where nothing counts"
    """Of a row that is cut without a loss of counted tokens."""
    no_room: str = "left out, of which no answer is left"
    """Of a row of which nothing to learn is left."""

    def count(self, n: int) -> str:
        """ "1 conversation", "2,000 conversations"."""
        return _number_of(n, self.name)


@dataclass(frozen=True)
class LongRows:
    """What became of the rows of a split that are longer than `limit` tokens."""

    kind: RowKind
    limit: int
    n_rows: int
    n_long: int = 0
    n_answers_cut: int = 0
    """Rows that stay and lose some of their counted tokens."""
    n_cut: int = 0
    """Rows that stay and are cut, those that lose counted tokens included."""
    n_dropped: int = 0
    """Left out because `too_long` is drop."""
    n_lost: int = 0
    """Left out because no counted token is left of them within the limit."""
    n_uncounted: int = 0
    """Left out because none of their tokens counts, cut or not."""
    way_out: str | None = None
    """What to set so that no row is longer."""

    @property
    def n_left_out(self) -> int:
        """Rows that are not trained on."""
        return self.n_dropped + self.n_lost + self.n_uncounted

    def lines(self) -> list[str]:
        """For people: what was cut and left out, and what to set instead; nothing where every row fits."""
        lines, kind = [], self.kind
        if self.n_long:
            parts = [
                (self.n_answers_cut, f"{_number_of(self.n_answers_cut, kind.counted)} cut"),
                (n := self.n_cut - self.n_answers_cut, f"{n:,} {kind.other}"),
                (self.n_dropped, f"{self.n_dropped:,} left out (too_long: drop)"),
                (self.n_lost, f"{self.n_lost:,} {kind.no_room}"),
            ]
            done = ", ".join(text for n, text in parts if n)
            ways = [f"{self.way_out} takes them whole"] if self.way_out else []
            ways += ["too_long: drop leaves them out"] if self.n_cut > 0 and self.n_long < self.n_rows else []
            advice = f"; {'; '.join(ways)}" if ways else ""
            longer = f"{self.n_long:,} of {kind.count(self.n_rows)}"
            lines.append(f"{longer} have over {self.limit:,} tokens: {done}{advice}")
        if self.n_uncounted:
            lines.append(f"{kind.count(self.n_uncounted)} without a counted token left out")
        return lines

    def to_json(self) -> JsonObject:
        """The counts."""
        return {
            "rows": self.n_rows,
            "limit": self.limit,
            "too_long": self.n_long,
            "answers_cut": self.n_answers_cut,
            "cut": self.n_cut,
            "left_out": self.n_left_out,
        }


def fit_rows(
    kind: RowKind,
    lengths: np.ndarray,
    limit: int,
    too_long: LongRowRule,
    *,
    counted: np.ndarray,
    counted_left: np.ndarray,
    shortest: np.ndarray,
    way_out: WayOut,
) -> tuple[np.ndarray, LongRows]:
    """Which rows stay (bool), and what became of the others.

    Of each row: its length in tokens, its counted tokens, those of them that a cut to `limit` leaves, and the shortest
    limit that would leave one. Raises `UserError` where `too_long` is refuse and a row is too long, and where rows with
    counted tokens exist and none of them stays. Where no row has a counted token at all every row stays: that is no
    matter of lengths, and a check of the doctor's.
    """
    long, teaches, left = lengths > limit, counted > 0, counted_left > 0
    n_rows, n_long = len(lengths), int(long.sum())
    takes_all = way_out(int(lengths.max()), int(lengths.max())) if n_long else None
    if n_long and too_long == "refuse":
        ways = [takes_all] if takes_all else []
        raise UserError(
            f"{n_long:,} of {kind.count(n_rows)} have over {limit:,} tokens, up to {int(lengths.max()):,}; the first is"
            f" row {int(np.argmax(long)) + 1:,} of its split",
            ", or ".join([*ways, "set too_long: truncate or drop", "shorten them"]),
        )
    if not teaches.any():
        return np.ones(n_rows, np.bool_), LongRows(kind, limit, n_rows, n_long, n_cut=n_long)
    dropped = long & teaches & (too_long == "drop")
    lost = teaches & ~left & ~dropped
    stays = teaches & ~dropped & ~lost
    if not stays.any():
        raise _nothing_left(kind, lengths, limit, too_long, shortest[teaches], way_out)
    cut = stays & long
    return stays, LongRows(
        kind,
        limit,
        n_rows,
        n_long,
        n_answers_cut=int((cut & (counted_left < counted)).sum()),
        n_cut=int(cut.sum()),
        n_dropped=int(dropped.sum()),
        n_lost=int(lost.sum()),
        n_uncounted=int((~teaches).sum()),
        way_out=takes_all,
    )


def _number_of(n: int, plural: str) -> str:
    return f"{n:,} {plural.removesuffix('s') if n == 1 else plural}"


def by_seq_len(window: int | None) -> WayOut:
    """Rows as long as `seq_len`, of a model that reads at most `window` tokens (None: any number)."""

    def way_out(whole: int, shortest: int) -> str | None:
        if window is not None and shortest > window:
            return None
        return f"seq_len {whole if window is None else min(whole, window)}"

    return way_out


def _nothing_left(
    kind: RowKind,
    lengths: np.ndarray,
    limit: int,
    too_long: LongRowRule,
    shortest: np.ndarray,
    way_out: WayOut,
) -> UserError:
    needed = int(shortest.min())
    ways = ["shorten them"]
    if too_long == "drop" and needed <= limit:
        why = f"all {kind.count(len(lengths))} have over {limit:,} tokens, and too_long is drop"
        ways.insert(0, "set too_long: truncate")
        needed = int(lengths.min())
    else:
        why = f"none of {kind.count(len(lengths))} can be learned from within {limit:,} tokens: the first of their"
        why += f" {kind.counted} needs {needed:,}"
    if way := way_out(int(lengths.max()), needed):
        ways.insert(0, f"set {way}")
    return UserError(why, ", or ".join(ways))
