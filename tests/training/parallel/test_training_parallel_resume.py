"""A run goes on in another number of processes: no row twice, none left out, and the losses of one that never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.parallel.forked import in_processes
from tests.training.parallel.killed_processes import kill_processes
from tests.training.parallel.spread_runs import run_steps


def some_steps(folder: Path, parallel: str, last: int | None) -> list[tuple[float, ...]]:
    return run_steps("next_token", folder, last, parallel=parallel)


def stopped_and_resumed(folder: Path, chain: list[tuple[int, str]]) -> None:
    """Each of the chain goes on from the newest checkpoint, and stops a step after the next; the last one finishes."""
    unbroken = {step: figures for step, *figures in run_steps("next_token")}
    for number, (n, parallel) in enumerate(chain):
        last = None if number == len(chain) - 1 else 4 * number + 5
        taken = (
            [some_steps(folder, parallel, last)]
            if n == 1
            else in_processes(n, some_steps, folder, parallel, last)
        )
        found = taken[0]
        assert [step for step, *_ in found] == list(range(4 * number + 1, (last or 12) + 1))
        for step, loss, _, n_counted, _ in found:
            assert loss == pytest.approx(unbroken[int(step)][0], rel=1e-5)
            assert n_counted == unbroken[int(step)][2]
    assert sorted(path.name for path in folder.glob("step-*"))[-1] == "step-00000012"
    assert not list(folder.glob(".*")), "nothing unfinished is left"


def test_two_processes_go_on_in_one(tmp_path: Path) -> None:
    stopped_and_resumed(tmp_path, [(2, "shard"), (1, "auto")])


@pytest.mark.long
def test_a_process_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    for found in kill_processes(tmp_path, 6, seed=1):
        assert found["left"] == []


@pytest.mark.long
@pytest.mark.parametrize(
    "chain",
    [
        [(1, "auto"), (2, "data"), (4, "shard=2,tensor=2")],
        [(4, "data=2,shard=2"), (1, "auto"), (2, "tensor")],
        [(2, "shard"), (4, "shard"), (1, "auto")],
    ],
    ids=str,
)
def test_a_run_goes_on_in_any_layout(tmp_path: Path, chain: list[tuple[int, str]]) -> None:
    stopped_and_resumed(tmp_path, chain)
