"""Every objective through the one loop: it learns, it is the same run twice, and a resume is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.short_suite import shortened
from tests.training.tiny_runs import facts, finish, weights
from tests.training.tiny_tasks import TASKS, task_trainer

ALL = pytest.mark.parametrize("name", list(TASKS))
N_STEPS = {"masked": 150}  # few places are chosen, so that it learns slowly; the others 40
# Losses of the first and the last step.
GOLDEN = {
    "next_token": (3.459637, 1.375597),
    "prefix": (3.448872, 2.068244),
    "experts": (3.588178, 1.435166),
    "masked": (3.426416, 2.536402),
    "span": (3.461144, 1.758157),
    "pairs": (3.436161, 2.608573),
    "classify": (1.093537, 0.180981),
    "tag": (1.099489, 0.018817),
    "regress": (1.805045, 0.002828),
    "embed": (1.277696, 0.004020),
    "forward": (1.150180, 0.533793),
    "reverse": (1.811675, 1.103729),
}


@shortened("name", list(TASKS), ("experts", "masked", "pairs", "tag", "reverse"))
def test_two_runs_are_equal_to_the_bit(name: str) -> None:
    runs = []
    for _ in range(2):
        trainer = task_trainer(name, max_steps=10, dropout=0.1)
        runs.append(([facts(record) for record in finish(trainer)], weights(trainer.model)))
    assert runs[0] == runs[1]


@ALL
def test_every_objective_learns_what_it_did(name: str) -> None:
    records = finish(task_trainer(name, max_steps=N_STEPS.get(name, 40), dropout=0.0))
    losses = [record.loss for record in records]
    assert not any(record.skipped for record in records)
    assert losses[0] == pytest.approx(GOLDEN[name][0], rel=1e-5)
    assert losses[-1] == pytest.approx(GOLDEN[name][1], rel=1e-2), "rounding differs between machines"
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


@shortened("name", list(TASKS), ("prefix", "span", "classify", "embed", "forward"))
def test_a_run_left_at_any_step_goes_on_to_the_same_losses_and_weights(name: str, tmp_path: Path) -> None:
    unbroken = task_trainer(name, max_steps=8, micro_batch_size=4)
    wanted = [facts(record) for record in finish(unbroken)]
    for stop in (1, 5):
        seen = {}
        for record in task_trainer(name, tmp_path / str(stop), max_steps=8, micro_batch_size=4).steps():
            seen[record.step] = facts(record)
            if record.step == stop:
                break
        resumed = task_trainer(name, tmp_path / str(stop), max_steps=8, micro_batch_size=4)
        assert resumed.first_step == stop - 1
        seen |= {record.step: facts(record) for record in finish(resumed)}
        assert [seen[step] for step in sorted(seen)] == wanted
        assert weights(resumed.model) == weights(unbroken.model)


@ALL
def test_positions_that_pass_the_network_are_counted_padding_included(name: str) -> None:
    trainer = task_trainer(name, max_steps=2)
    batch = trainer.source.rows(0, trainer.plan.n_rows)
    arrays = {
        n: v for n, v in vars(batch).items() if n in ("input_ids", "source_ids", "first_ids", "second_ids")
    }
    record = next(iter(trainer.steps()))
    assert record.n_tokens == sum(array.size for array in arrays.values())
    assert record.n_counted == batch.n_counted
