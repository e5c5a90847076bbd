"""Rows of several sources in given proportions, which may change over a run: a pure function of (seed, row number, lengths).

A run is cut into phases of equal proportions, at the ends of the curriculum's stages. In a phase of N rows a source with n
of them has its j-th row at (j + 1/2) / n of the phase, ties in the order of the sources; so each phase is exact to within
one row (largest remainders), and any stretch of it nearly so. Rows are of one length, so proportions of rows are those of
tokens, but for the padding at the end of a source's epoch. Each source keeps its own order, epochs and seed.

A run in a given time changes its length as it goes. `lengths` records each length with the row from which it holds:
phases that began before keep their order and are cut short there. B rows, S sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from parakit.common.errors import UserError
from parakit.data.mixing import allocate
from parakit.data.mixture import Mixture
from parakit.tokens.batches.batch import Batch, Occurrence, merge_rows
from parakit.tokens.batches.source import BatchSource

Lengths = Sequence[tuple[int, int]]
"""Of a run: from which row on, and how many rows it has in all; the first is from row 0."""
MARK_EVERY = 4096  # rows between the counts that are kept


@dataclass(frozen=True)
class Phase:
    """Rows `start` to `end - 1` of a run. It was planned with `counts` rows of each source; a change of the run's length
    may have cut it. `before`: rows of each source before it.
    """

    start: int
    end: int
    counts: tuple[int, ...]
    before: tuple[int, ...]
    shares: tuple[float, ...]


class MixedSource:
    """Rows of `sources` in the proportions of `mixture`. An epoch is as long as all sources together."""

    def __init__(self, sources: Sequence[BatchSource], mixture: Mixture, lengths: Lengths) -> None:
        """`UserError` where the run is longer than `max_repeats` allows."""
        self.sources, self.mixture = list(sources), mixture
        first = self.sources[0]
        self.seq_len, self.seed, self.shift, self.shards = (
            first.seq_len,
            first.seed,
            first.shift,
            first.shards,
        )
        self.packing, self.long_rows = "concat", None
        self.rows_per_epoch = float(sum(source.rows_per_epoch for source in self.sources))
        self._limits = [
            None if times is None else int(times * source.rows_per_epoch)
            for times, source in zip(mixture.max_repeats or [None] * len(sources), self.sources, strict=True)
        ]
        self._orders = lru_cache(maxsize=4)(_order)
        self._check_limits(lengths[0][1])
        self._lengths: list[tuple[int, int]] = []
        self.follow(lengths)

    def follow(self, lengths: Lengths) -> None:
        """Plan the rest of the run for its length as it is now; the rows before stay as they were."""
        if lengths == self._lengths:
            return
        self._lengths = list(lengths)
        self.phases: list[Phase] = []
        sizes = tuple(float(source.n_pairs_per_epoch) for source in self.sources)
        stages = self.mixture.stages(sizes)
        for number, (begin, n_rows) in enumerate(lengths):
            stop = lengths[number + 1][0] if number + 1 < len(lengths) else n_rows
            position = begin
            for until, shares in stages:
                end = n_rows if until == 1 else round(until * n_rows)
                if end > position and position < stop:
                    self._add(position, end, shares, cut=min(end, stop))
                    position = min(end, stop)

    def rows(self, start_row: int, n_rows: int) -> Batch:
        """Rows `start_row` to `start_row + n_rows - 1`, a pure function of the seeds and the lengths."""
        of, inner = self.places(start_row, n_rows)
        parts = []
        for number, source in enumerate(self.sources):
            mine = np.flatnonzero(of == number)
            if len(mine):
                parts.append((mine, source.rows(int(inner[mine[0]]), len(mine))))
        return merge_rows(parts, n_rows)

    def places(self, start_row: int, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each row: its source, and the number of the row in it. Both (B,)."""
        of, inner = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
        done = 0
        while done < n_rows:
            phase = self._phase_of(start_row + done)
            first = start_row + done - phase.start
            n = min(n_rows - done, phase.end - phase.start - first)
            order, marks = self._orders(phase.counts)
            of[done : done + n] = order[first : first + n]
            taken = _taken(order, marks, first)
            for number in range(len(self.sources)):
                mine = np.flatnonzero(of[done : done + n] == number)
                inner[done + mine] = phase.before[number] + taken[number] + np.arange(len(mine))
            done += n
        return of, inner

    def counts(self, n_rows: int) -> list[int]:
        """Rows of each source among the first `n_rows`."""
        if not n_rows:
            return [0] * len(self.sources)
        phase = self._phase_of(n_rows - 1)
        order, marks = self._orders(phase.counts)
        taken = _taken(order, marks, n_rows - phase.start)
        return [before + n for before, n in zip(phase.before, taken, strict=True)]

    def wished(self, n_rows: int) -> list[float]:
        """The share of each source that the weights wish for the first `n_rows` rows, over the phases."""
        total = np.zeros(len(self.sources))
        for phase in self.phases:
            total += max(0, min(phase.end, n_rows) - phase.start) * np.array(phase.shares)
        return (total / max(1, total.sum())).tolist()

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return row / self.rows_per_epoch

    def find(self, document: int, n_rows: int) -> list[Occurrence]:
        """Where the first `n_rows` rows read tokens of a document of the shards."""
        counts = self.counts(n_rows)
        found = []
        for number, (source, n) in enumerate(zip(self.sources, counts, strict=True)):
            inside = source.find(document, n)
            if inside:
                places = np.flatnonzero(self.places(0, n_rows)[0] == number)
                found += [replace(one, row=int(places[one.row])) for one in inside]
        return found

    def _phase_of(self, row: int) -> Phase:
        """The phase of a row; behind the end of the run the last one goes on, as often as needed."""
        while row >= self.phases[-1].end:
            last = self.phases[-1]
            self._add(last.end, last.end + max(1, sum(last.counts)), last.shares, limited=False)
        return next(phase for phase in reversed(self.phases) if phase.start <= row)

    def _add(
        self, start: int, end: int, shares: tuple[float, ...], cut: int | None = None, limited: bool = True
    ) -> None:
        before = (0,) * len(self.sources)
        if self.phases:
            last = self.phases[-1]
            order, marks = self._orders(last.counts)
            taken = _taken(order, marks, last.end - last.start)
            before = tuple(b + n for b, n in zip(last.before, taken, strict=True))
        rest = [
            None if limit is None or not limited else max(0, limit - b)
            for limit, b in zip(self._limits, before, strict=True)
        ]
        counts = limited_parts(shares, end - start, rest) or allocate(shares, end - start)
        self.phases.append(Phase(start, end if cut is None else cut, tuple(counts), before, shares))

    def _check_limits(self, n_rows: int) -> None:
        rest = list(self._limits)
        done = 0
        for until, shares in self.mixture.stages(tuple(float(one.n_pairs_per_epoch) for one in self.sources)):
            end = n_rows if until == 1 else round(until * n_rows)
            parts = limited_parts(shares, end - done, rest)
            if parts is None:
                raise UserError(
                    f"the sources have too little text for {n_rows * self.seq_len:,} tokens: up to {until:.0%} of the run"
                    f" those with a weight ({', '.join(n for n, s in zip(self.mixture.names, shares, strict=True) if s)})"
                    " reach max_repeats",
                    "raise max_repeats, train on fewer tokens (max_tokens, max_steps), or give other sources a weight",
                )
            rest = [None if limit is None else limit - n for limit, n in zip(rest, parts, strict=True)]
            done = end


def limited_parts(shares: Sequence[float], total: int, limits: Sequence[int | None]) -> list[int] | None:
    """Whole numbers that add up to `total` in the proportions of `shares`, none over its limit: what is over goes to the
    others in their proportions. None where all that have a share are at their limits.
    """
    fixed: dict[int, int] = {}
    while True:
        left = total - sum(fixed.values())
        open_shares = [0.0 if i in fixed else share for i, share in enumerate(shares)]
        if not any(open_shares):
            return [fixed.get(i, 0) for i in range(len(shares))] if not left else None
        parts = allocate(open_shares, left)
        over = {i: n for i, n in enumerate(limits) if n is not None and i not in fixed and parts[i] > n}
        if not over:
            return [fixed.get(i, part) for i, part in enumerate(parts)]
        fixed |= over


def _order(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The source of each row of a phase (N,) uint8, and the rows of each source before every `MARK_EVERY`-th row."""
    of = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    times = np.concatenate([(np.arange(n) + 0.5) / max(1, n) for n in counts]) if len(of) else np.empty(0)
    order = of[np.argsort(times, kind="stable")]
    marks = [np.zeros(len(counts), np.int64)]
    for start in range(0, len(order) - MARK_EVERY + 1, MARK_EVERY):
        marks.append(marks[-1] + np.bincount(order[start : start + MARK_EVERY], minlength=len(counts)))
    return order, np.stack(marks)


def _taken(order: np.ndarray, marks: np.ndarray, n: int) -> list[int]:
    """Rows of each source among the first `n` of a phase."""
    mark = min(n // MARK_EVERY, len(marks) - 1)
    rest = np.bincount(order[mark * MARK_EVERY : n], minlength=marks.shape[1])
    counts: list[int] = (marks[mark] + rest).tolist()
    return counts
