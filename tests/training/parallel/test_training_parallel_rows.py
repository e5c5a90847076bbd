"""The rows of a step are dealt to the processes: each row once, whatever their number."""

from __future__ import annotations

from itertools import product

import pytest

from parakit.training.parallel.rows import deal_rows


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_every_row_of_a_step_is_read_once(n: int) -> None:
    for n_rows, micro_batch_size in product((1, 2, 5, 8, 13), (1, 2, 3, 8)):
        dealt = [deal_rows(100, n_rows, micro_batch_size, index, n) for index in range(n)]
        rows = [
            row
            for ranges in dealt
            for part in ranges
            if part.counts
            for row in range(part.start, part.start + part.n_rows)
        ]
        assert sorted(rows) == list(range(100, 100 + n_rows))
        assert len({len(ranges) for ranges in dealt}) == 1, "every process takes part in every pass"
        assert all(part.n_rows <= micro_batch_size for ranges in dealt for part in ranges)


def test_a_process_without_a_row_reads_one_that_does_not_count() -> None:
    dealt = [deal_rows(10, 2, 4, index, 3) for index in range(3)]
    assert [part.counts for ranges in dealt for part in ranges].count(False) == 1


def test_one_process_reads_the_micro_batches_of_the_plan() -> None:
    assert [(part.start, part.n_rows) for part in deal_rows(7, 5, 2)] == [(7, 2), (9, 2), (11, 1)]
