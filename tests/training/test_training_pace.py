"""A run in a given time ends in time, whatever the machine does, and can be run again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.training import Trainer
from parakit.training.objectives import next_token
from parakit.training.optimizers.schedules import learning_rate_factor
from tests.training.simulated_machine import Followed, Machine, follow
from tests.training.tiny_runs import facts, finish, tiny_model, tiny_plan, tiny_source, weights

PROMISE = 0.15
PROMISED = settings(max_examples=60, deadline=None, derandomize=True)


def changing(at: float, factor: float) -> Any:
    return lambda part, threads: 1.0 if part < at else factor


@PROMISED
@given(
    at=st.floats(0.02, 0.95),
    factor=st.sampled_from([0.5, 2.0]),
    guess=st.floats(0.15, 7.0),
    validation=st.floats(0.0, 4.0),
    save=st.floats(0.0, 2.0),
    after=st.floats(0.0, 6.0),
    seed=st.integers(0, 99),
)
def test_a_machine_that_halves_or_doubles_its_speed_keeps_the_promise(
    at, factor, guess, validation, save, after, seed
):
    noise = np.random.default_rng(seed)
    found = follow(
        Machine(120.0, changing(at, factor)),
        max(8, round(guess * 400)),
        0.3,
        validation=validation,
        save=save,
        after=after,
        jitter=lambda: float(noise.uniform(0.6, 1.4)),
    )
    assert 1 - PROMISE < found.of_the_time < 1 + PROMISE


@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
@pytest.mark.parametrize("factor", [0.14, 0.5, 2.0, 7.0])
def test_the_learning_rate_falls_to_its_end_without_a_jump(schedule, factor):
    found = follow(Machine(120.0, changing(0.4, factor)), 1000, 0.12, schedule=schedule, warmup_steps=10)
    factors = [learning_rate_factor(found.plan, step) for step in range(found.n_steps)]
    assert len(found.plan.revisions) > 1
    assert factors[:11] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0] or schedule == "cosine"
    assert factors[-1] < 0.1
    falling = factors[10:]
    assert all(before >= after for before, after in pairwise(falling))
    assert max(before - after for before, after in pairwise(falling)) < 0.05


def test_a_plan_that_is_right_is_left_alone():
    found = follow(Machine(120.0), 1000, 0.12)
    assert found.plan.revisions == ()
    assert found.plan == tiny_plan(max_steps=1000).replace(most_steps=10**9)


def test_no_more_steps_than_the_data_are_worth():
    machine = Machine(120.0)
    assert follow(machine, 100, 0.3).n_steps > 300
    budget = Machine(120.0).budget()
    plan = tiny_plan(max_steps=100)  # of examples, two passes; it may not grow

    class Fast(Machine):
        pass

    assert plan.most_steps is None
    found = limited(Fast(120.0), plan)
    assert found == 100
    assert budget.left == 120.0


def limited(machine: Machine, plan: Any) -> int:
    from parakit.training.pace import Pace

    pace = Pace(machine.budget(), plan, 0, on_cpu=True)
    for step in range(1, plan.max_steps + 1):
        pace.begin_step()
        machine.work(0.1)
        pace.end_step()
        plan = pace.revise(plan, step)
    return plan.max_steps


def with_other_work(part: float, threads: int) -> float:
    """Until 60 % of the time another program has one of two cores: two threads then wait for each other."""
    return (0.2 if threads == 2 else 0.9) if part < 0.6 else 1.0 * threads


def test_fewer_threads_are_taken_while_they_are_faster():
    found = follow(Machine(120.0, with_other_work, most_threads=2), 1000, 0.12)
    assert 0.85 < found.of_the_time < 1.15
    middle, last = found.threads[len(found.threads) // 4], found.threads[-20]
    assert (middle, last) == (1, 2)
    with_two = follow(Machine(120.0, lambda part, threads: with_other_work(part, 2)), 1000, 0.12)
    assert found.n_steps > 1.2 * with_two.n_steps


@pytest.mark.parametrize("growth", [1, 2, 4])
def test_the_data_position_is_the_sum_of_the_steps_before(growth):
    plan = tiny_plan(max_steps=60, batch_growth=growth, batch_tokens=96)
    for revision in ((7, 30, 1), (12, 44, 0), (40, 41, 0)):
        plan = plan.revised(*revision)
    taken = np.cumsum([0, *(plan.rows_at(step) for step in range(plan.max_steps))])
    assert [plan.rows_before(step) for step in range(plan.max_steps + 1)] == taken.tolist()
    assert plan.max_steps == 41
    assert plan.threads_at(3) == 0
    assert plan.threads_at(8) == 1
    earlier = tiny_plan(max_steps=60, batch_growth=growth, batch_tokens=96).revised(7, 30, 1)
    for step in range(12):  # what was planned for the steps before a revision does not change with it
        assert plan.rows_at(step) == earlier.rows_at(step)
        assert learning_rate_factor(plan, step) == learning_rate_factor(earlier, step)


def timed_trainer(folder: Path | None, machine: Machine, **changes: Any) -> Trainer:
    """A real run, each forward pass of which takes a second of the machine."""

    def objective(model: Any, batch: Any) -> torch.Tensor:
        machine.work(1.0)
        return next_token(model, batch)

    plan = tiny_plan(max_steps=50, **changes).replace(most_steps=10**9)
    return Trainer(tiny_model(dropout=0.1), tiny_source(), objective, plan, folder, machine.budget())


@pytest.mark.parametrize("changes", [{}, {"batch_growth": 2, "schedule": "cosine"}])
def test_a_timed_run_is_repeated_bit_for_bit_from_its_revisions(changes):
    machine = Machine(40.0, changing(0.5, 0.5))
    timed = timed_trainer(None, machine, **changes)
    wanted = [facts(record) for record in finish(timed)]
    assert abs(machine.now / 40.0 - 1) < PROMISE
    assert timed.plan.revisions[0] == (0, 50, 0)
    plan = tiny_plan(max_steps=None, revisions=timed.plan.revisions, **changes)
    assert plan.max_steps == timed.plan.max_steps == len(wanted)
    again = Trainer(tiny_model(dropout=0.1), tiny_source(), next_token, plan, None)
    assert [facts(record) for record in finish(again)] == wanted
    assert weights(again.model) == weights(timed.model)


def test_an_interrupted_timed_run_goes_on_with_the_time_that_is_left(tmp_path):
    first = Machine(40.0, changing(0.2, 0.5))
    seen = {}
    for record in timed_trainer(tmp_path, first).steps():
        seen[record.step] = facts(record)
        if record.step == 13:
            break
    resumed = timed_trainer(tmp_path, second := Machine(40.0, lambda part, threads: 0.5))
    assert resumed.first_step == 12
    assert resumed.plan.revisions  # those of before
    left = resumed.pace.budget.left
    assert left < 40.0 - 12
    seen |= {record.step: facts(record) for record in finish(resumed)}
    assert abs(second.now / left - 1) < PROMISE
    plan = tiny_plan(max_steps=None, revisions=resumed.plan.revisions)
    again = Trainer(tiny_model(dropout=0.1), tiny_source(), next_token, plan, None)
    assert [facts(record) for record in finish(again)] == [seen[step] for step in sorted(seen)]
    assert weights(again.model) == weights(resumed.model)


def test_a_single_step_that_takes_the_whole_time_is_the_run():
    found: Followed = follow(Machine(10.0, lambda part, threads: 0.05), 100, 1.0)
    assert found.n_steps == 1
