"""The layout of a run in many processes: as it is set, or derived from the model and the memory."""

from __future__ import annotations

import pytest

from parakit.common.errors import UserError
from parakit.training.config import TrainingConfig
from parakit.training.parallel.layout import Layout, choose_layout, parse_parallel

GIB = 2**30


def chosen(
    parallel: str, n: int, n_parameters: int = 1000, memory: int | None = None, n_rows: int = 64
) -> Layout:
    return choose_layout(parallel, n, n_parameters, memory, n_rows)


def test_a_model_that_fits_is_data_parallel() -> None:
    assert chosen("auto", 8, 100_000_000, 80 * GIB) == Layout(data=8)
    assert chosen("auto", 8) == Layout(data=8)


def test_a_model_that_does_not_fit_is_sharded_over_as_few_processes_as_hold_it() -> None:
    # 16 bytes a parameter of 7e9 are 104 GiB; 60 % of 80 GiB are 48: three processes, and four divide eight
    assert chosen("auto", 8, 7_000_000_000, 80 * GIB) == Layout(data=2, shard=4)
    assert chosen("auto", 4, 70_000_000_000, 80 * GIB) == Layout(shard=4)


@pytest.mark.parametrize(
    ("parallel", "n", "layout"),
    [
        ("data", 4, Layout(data=4)),
        ("shard", 4, Layout(shard=4)),
        ("tensor", 2, Layout(tensor=2)),
        ("shard=2,tensor=2", 4, Layout(shard=2, tensor=2)),
        ("shard=2,tensor=2", 8, Layout(data=2, shard=2, tensor=2)),
        ("data=2,shard=2", 4, Layout(data=2, shard=2)),
        ("data=2,shard", 8, Layout(data=2, shard=4)),
        ("shard=4,expert=2", 4, Layout(shard=4, expert=2)),
        ("shard,expert", 4, Layout(shard=4, expert=4)),
    ],
)
def test_sizes_that_are_set_are_used(parallel: str, n: int, layout: Layout) -> None:
    found = chosen(parallel, n)
    assert found == layout
    assert found.n_processes == n


@pytest.mark.parametrize(
    ("parallel", "n", "wrong"),
    [
        ("shard=3", 4, "is for a multiple of 3 processes, and there are 4"),
        ("data=2", 4, "is for 2 processes, and there are 4"),
        ("data,shard", 4, "is for a multiple of 1 processes"),
        ("shard=4,expert=3", 4, "expert = 3 does not divide the 4 processes"),
        ("shard=2", 1, "is for a multiple of 2 processes, and there are 1"),
    ],
)
def test_sizes_that_the_processes_do_not_have_are_refused(parallel: str, n: int, wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        chosen(parallel, n)


def test_a_step_needs_a_row_for_every_process_that_reads() -> None:
    with pytest.raises(UserError, match="4 processes read rows of their own, and a step has 3 rows"):
        chosen("shard", 4, n_rows=3)
    assert chosen("tensor", 4, n_rows=1) == Layout(tensor=4)


@pytest.mark.parametrize("text", ["shards=2", "shard=0", "shard=2,shard=2", "shard:2", ""])
def test_what_is_no_layout_is_refused_when_settings_are_read(text: str) -> None:
    with pytest.raises(UserError, match="is no dimension with a size"):
        TrainingConfig.parse({"parallel": text})


def test_context_parallel_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match="gradient_checkpointing to on"):
        TrainingConfig.parse({"parallel": "context=2"})


def test_a_recipe_may_give_a_mapping() -> None:
    assert parse_parallel({"shard": 2, "tensor": 2}) == "shard=2,tensor=2"
    assert TrainingConfig.parse({"parallel": {"shard": 2}}).parallel == "shard=2"
