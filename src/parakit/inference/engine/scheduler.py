"""Which rows run in the next step, and with how many of their tokens.

Rows that decode come first, one token each; what is left of the step's tokens goes to chunks of prompts, in the order of
admission (Agrawal et al. 2023, "Sarathi": chunked prefill). A row is admitted when its prompt fits with what has been promised
to the rows before it. When pages run out, the youngest row gives its own up and is computed again later, from what is still
cached; its sampler goes on, so its tokens are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from parakit.inference.engine.config import EngineConfig
from parakit.inference.engine.fair_queue import FairQueue
from parakit.inference.engine.paged_cache import PagedCache
from parakit.inference.engine.pages import NO_PAGE
from parakit.inference.engine.requests import Row


@dataclass(eq=False)
class Scheduler:
    """The rows that wait and those that run, oldest admission first."""

    cache: PagedCache
    config: EngineConfig
    salt_of: Callable[[str | None], bytes]
    """Of the weights that a row with this adapter runs with."""
    waiting: FairQueue = field(default_factory=FairQueue)
    running: list[Row] = field(default_factory=list)
    n_preempted: int = 0
    n_admitted: int = 0
    n_prompt_tokens: int = 0
    n_shared_tokens: int = 0

    @property
    def has_work(self) -> bool:
        """Whether a row waits or runs."""
        return bool(self.running) or bool(self.waiting)

    def plan(self) -> list[tuple[Row, int]]:
        """Rows with the number of their tokens for the next step; the cache has room for them."""
        self._admit()
        planned: list[tuple[Row, int]] = []
        budget = self.config.max_step_tokens
        for row in list(self.running):
            if row.cache is None or row.n_pending > 1:
                continue
            if self._make_room(row, 1, planned):
                planned.append((row, 1))
        budget = max(budget - len(planned), 1)
        for row in list(self.running):
            if budget <= 0:
                break
            if row.cache is None or row.n_pending <= 1:
                continue
            n_new = row.n_pending if self.cache.switch_len is not None else min(row.n_pending, budget)
            if self._make_room(row, n_new, planned):
                planned.append((row, n_new))
                budget -= n_new
        return planned

    def _admit(self) -> None:
        """Let waiting rows in, as long as their prompts fit."""
        promised: list[int] | None = None
        while len(self.running) < self.config.max_rows:
            row = self.waiting.peek()
            if row is None:
                return
            row.cache = self.cache.new_row(row.tokens, self.salt_of(row.adapter))
            if promised is None:
                promised = [sum(numbers) for numbers in zip(*map(self._needed, self.running), strict=True)]
            promised = [
                a + b
                for a, b in zip(promised or [0] * len(self.cache.groups), self._needed(row), strict=True)
            ]
            fits = all(
                n <= group.pool.n_available for n, group in zip(promised, self.cache.groups, strict=True)
            )
            if self.running and not fits:
                self.cache.release(row.cache)
                row.cache = None
                return
            self.waiting.remove(row)
            self.n_prompt_tokens += len(row.tokens)
            self.n_shared_tokens += row.cache.length
            self.n_admitted += 1
            if not row.admitted and row.index == 0:
                row.handle.n_cached_tokens = row.handle.n_read_tokens = row.cache.length
            row.admitted = self.n_admitted
            self.running.append(row)

    def _needed(self, row: Row) -> list[int]:
        """Pages of each group that a row still needs for what it has to read, one at least, and one for each sibling."""
        assert row.cache is not None
        needed = []
        pages = self.cache.n_pages_for(row.cache, row.n_pending)
        for group, table, n_pages in zip(self.cache.groups, row.cache.tables, pages, strict=True):
            if group.window is not None:
                held = sum(page != NO_PAGE for page in table)
                n_pages = min(n_pages, self.cache.n_pages_alone(group, len(row.tokens) + 1) - held)
            needed.append(max(1, n_pages) + len(row.siblings))
        return needed

    def _make_room(self, row: Row, n_new: int, planned: list[tuple[Row, int]]) -> bool:
        """Reserve pages, if necessary those of younger rows that have no part in this step yet."""
        assert row.cache is not None
        if self.cache.switches(row.cache, n_new):
            self.restart(row)
            return False
        while not self.cache.reserve(row.cache, n_new):
            taken = {id(one) for one, _ in planned}
            younger = [one for one in self.running if id(one) not in taken and one.admitted > row.admitted]
            if younger:
                self.preempt(max(younger, key=lambda one: one.admitted))
            elif row.n_pending == 1 and (planned or len(self.running) > 1):
                self.preempt(row)
                return False
            else:
                return False
        return True

    def restart(self, row: Row) -> None:
        """Compute a running row from its first token again."""
        assert row.cache is not None
        self.cache.release(row.cache)
        row.cache = self.cache.new_row(row.tokens, self.salt_of(row.adapter))

    def preempt(self, row: Row) -> None:
        """A row gives up its pages and waits again, before the others of its client."""
        self.leave(row)
        self.waiting.push(row, first=True)
        self.n_preempted += 1

    def leave(self, row: Row) -> None:
        """A row neither runs nor waits any longer; the pages of a broken one are never found again."""
        if row.is_waiting:
            self.waiting.remove(row)
        if row.cache is not None:
            self.running.remove(row)
            (self.cache.discard if row.is_broken else self.cache.release)(row.cache)
            row.cache = None

    def fork(self, row: Row) -> list[Row]:
        """The prompt of a row is computed: its siblings run from here, or wait where too many rows run. Returns those that
        run.
        """
        forked = []
        for sibling in row.siblings:
            if len(self.running) < self.config.max_rows:
                assert row.cache is not None
                sibling.cache = self.cache.fork(row.cache)
                sibling.admitted = row.admitted
                self.running.append(sibling)
                forked.append(sibling)
            else:
                self.waiting.push(sibling, first=True)
        row.siblings = []
        return forked
