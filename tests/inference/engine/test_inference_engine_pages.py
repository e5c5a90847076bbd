"""The page allocator: no page is lost, and none that others see is written."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from parakit.inference.engine.paged_cache import CacheRow, PagedCache
from parakit.inference.engine.pages import NO_PAGE, PagePool
from parakit.model import DecoderConfig

CONFIG = DecoderConfig(
    vocab_size=5, d_model=4, n_layers=2, n_heads=1, n_kv_heads=1, head_dim=2, d_ff=4, max_seq_len=40,
    sliding_window=6, local_layers=(1,),
)  # fmt: skip
PAGE, ROWS = 3, 4


class CacheMachine(RuleBasedStateMachine):
    """Rows come, grow, fork, fail and leave, in any order. Each token's key and value are a hash of the row's tokens up to
    it, so what a row reads shows whether anybody else wrote there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cache = PagedCache(
            CONFIG, memory_bytes=5000, max_rows=ROWS, step_tokens=8, max_seq_len=40, page_size=PAGE
        )
        self.rows: list[CacheRow] = []

    @precondition(lambda self: len(self.rows) < ROWS)
    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=20))
    def begin(self, tokens: list[int]) -> None:
        row = self.cache.new_row(tokens)
        assert row.length < len(tokens)
        assert row.token_ids == tokens[: row.length]
        self.rows.append(row)

    @precondition(lambda self: self.rows)
    @rule(
        which=st.integers(0, 100),
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=8),
        n_kept=st.integers(1, 8),
    )
    def grow(self, which: int, tokens: list[int], n_kept: int) -> None:
        row = self.rows[which % len(self.rows)]
        tokens = tokens[: 40 - row.length]
        before = [
            (group.pool.n_available, list(t)) for group, t in zip(self.cache.groups, row.tables, strict=True)
        ]
        if not tokens or not self.cache.reserve(row, len(tokens)):
            after = [
                (g.pool.n_available, list(t)) for g, t in zip(self.cache.groups, row.tables, strict=True)
            ]
            assert after == before
            return
        for i in range(len(tokens)):  # the last may be written and not kept, as drafts are
            self.write(row, row.length + i, [*row.token_ids, *tokens[: i + 1]])
        self.cache.commit(row, tokens[: min(n_kept, len(tokens))])

    def write(self, row: CacheRow, position: int, tokens: list[int]) -> None:
        for group, table in zip(self.cache.groups, row.tables, strict=True):
            page = table[position // PAGE]
            assert group.pool.is_writable(page)
            for layer in group.layers:
                self.cache.stores[layer].keys[page, 0, position % PAGE] = hash(tuple(tokens)) % 10**6

    @precondition(lambda self: self.rows and len(self.rows) < ROWS)
    @rule(which=st.integers(0, 100))
    def fork(self, which: int) -> None:
        self.rows.append(self.cache.fork(self.rows[which % len(self.rows)]))

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0, 100), is_broken=st.booleans())
    def leave(self, which: int, is_broken: bool) -> None:
        row = self.rows.pop(which % len(self.rows))
        (self.cache.discard if is_broken else self.cache.release)(row)

    @rule()
    def forget(self) -> None:
        self.cache.forget()

    @invariant()
    def every_page_is_accounted_for(self) -> None:
        for number, group in enumerate(self.cache.groups):
            holders: dict[int, int] = {}
            for row in self.rows:
                for page in row.tables[number]:
                    if page != NO_PAGE:
                        holders[page] = holders.get(page, 0) + 1
            pool = group.pool
            assert {page: n for page in range(1, pool.n_pages + 1) if (n := pool.holders(page))} == holders
            assert pool.n_held == len(holders)
            assert pool.n_shared == sum(n > 1 for n in holders.values())
            for row in self.rows:
                table = row.tables[number]
                assert self.cache.tables[number][row.slot, : len(table)].tolist() == table

    @invariant()
    def every_row_reads_what_it_wrote(self) -> None:
        for row in self.rows:
            for group, table in zip(self.cache.groups, row.tables, strict=True):
                first = 0 if group.window is None else max(0, row.length - group.window + 1)
                for position in range(first, row.length):
                    page = table[position // PAGE]
                    assert page != NO_PAGE
                    expected = hash(tuple(row.token_ids[: position + 1])) % 10**6
                    for layer in group.layers:
                        assert self.cache.stores[layer].keys[page, 0, position % PAGE, 0] == expected


CacheMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestCacheMachine = CacheMachine.TestCase


def test_pages_are_taken_lowest_first_and_cached_ones_last_and_longest_released_first():
    pool = PagePool(3)
    assert [pool.take(), pool.take()] == [1, 2]
    pool.publish(1, b"a")
    pool.publish(2, b"b")
    assert pool.release([2]) == []
    assert pool.release([1]) == []
    assert (pool.n_available, pool.n_cached, pool.n_held) == (3, 2, 0)
    assert pool.take() == 3
    pool.hold(2)  # found again
    pool.release([2])  # now the newest
    assert [pool.take(), pool.find(b"a"), pool.find(b"b")] == [1, None, 2]
    assert not PagePool(1).is_writable(1)
    pool.take()
    with pytest.raises(IndexError):
        pool.take()
