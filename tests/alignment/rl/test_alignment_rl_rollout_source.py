"""Phases on the one loop: served in order, ended early, and gone on from to the bit."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parakit.alignment.rl.prompts import SampledCompletion
from parakit.alignment.rl.reward import RewardError
from parakit.alignment.rl.rewards import FunctionReward
from parakit.common.errors import UserError
from parakit.training.micro_batches import to_micro_batch
from parakit.training.trainer import TrainingInterrupted
from tests.alignment.rl.tiny_policy import letters, tiny_config, tiny_trainer, weights

METHODS = ("ppo", "grpo")
ADAPTIVE: dict[str, Any] = {"kl_target": 0.5}


def take_steps(trainer: Any, taken: list[float], stop_after: int) -> None:
    """Take steps until the run stops, prompts to after one of them."""
    for record in trainer.steps():
        taken.append(record.loss)
        if record.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)


def finish(trainer: Any) -> list[float]:
    return [record.loss for record in trainer.steps()]


def test_every_rollout_of_a_phase_is_learned_from_once_an_epoch() -> None:
    trainer = tiny_trainer(None)
    source: Any = trainer.source
    config = source.config
    seen: list[list[int]] = []
    for step in range(config.steps_per_phase):
        batch = source.rows(step * config.n_rows, config.n_rows)
        seen.append([hash(row.tobytes()) for row in batch.target_ids])
        assert not source.resumable_at(step + 1) or step + 1 == config.steps_per_phase
    every = sorted(hash(row.tobytes()) for row in source.experience.rollouts.rows.target_ids)
    rows = source.experience.rollouts.rows
    if len(set(every)) == len(every) and rows.lengths.min() == rows.lengths.max():
        assert sorted(seen[0] + seen[1]) == every
    assert source.n_phases == 1
    source.rows(config.steps_per_phase * config.n_rows, config.n_rows)
    assert source.n_phases == 2
    with pytest.raises(AssertionError, match="rows are gone"):
        source.rows(0, config.n_rows)


def test_prompts_are_asked_in_turn_each_once_a_pass() -> None:
    source: Any = tiny_trainer(None).source
    prompts = [prompt for phase in range(5) for prompt in source._prompts(phase)]  # 20 of 5 prompts
    for start in range(0, 20, 5):
        assert len({prompt.messages for prompt in prompts[start : start + 5]}) == 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_run_that_was_stopped_goes_on_to_the_bit(method: Any, stop_after: int, tmp_path: Path) -> None:
    """Between phases (4) and inside them: stopping waits for the phase's end."""
    unbroken = tiny_trainer(None, method, **ADAPTIVE)
    losses = finish(unbroken)
    first = tiny_trainer(tmp_path, method, **ADAPTIVE)
    taken: list[float] = []
    with pytest.raises(TrainingInterrupted):
        take_steps(first, taken, stop_after)
    assert len(taken) == -(-stop_after // 4) * 4
    second = tiny_trainer(tmp_path, method, **ADAPTIVE)
    assert taken + finish(second) == losses
    assert weights(second) == weights(unbroken)
    assert second.source.state() == unbroken.source.state()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_killed_inside_a_phase_begins_that_phase_again(method: Any, tmp_path: Path) -> None:
    unbroken = tiny_trainer(None, method, **ADAPTIVE)
    losses = finish(unbroken)
    first = tiny_trainer(tmp_path, method, **ADAPTIVE)
    steps = first.steps()
    for _ in range(7):
        next(steps)
    steps.close()  # nothing is saved at a kill: the newest checkpoint stands where the first phase ended
    second = tiny_trainer(tmp_path, method, **ADAPTIVE)
    assert second.first_step == 4
    assert finish(second) == losses[4:]
    assert weights(second) == weights(unbroken)


@pytest.mark.parametrize("method", METHODS)
def test_a_phase_ends_early_when_the_policy_has_moved_too_far(method: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_kl": 1e-3, "plan": {"learning_rate": 0.05, "max_steps": 9}}
    trainer = tiny_trainer(tmp_path, method, **settings)
    source: Any = trainer.source
    begins = []
    for _ in trainer.steps():
        begins.append(source.first_step)
    assert source.n_phases > 3  # of at most 4 steps each
    assert len(set(begins)) == source.n_phases
    resumed = tiny_trainer(tmp_path / "other", method, **settings)
    for record in resumed.steps():
        if record.step == 5:
            break
    again = tiny_trainer(tmp_path / "other", method, **settings)
    finish(again)
    assert weights(again) == weights(trainer)


@pytest.mark.parametrize("method", METHODS)
def test_the_run_is_over_with_the_first_phase_beyond_the_limit(method: Any) -> None:
    plan: dict[str, Any] = {"learning_rate": 0.05, "max_steps": 40}
    limit = 0.2
    trainer = tiny_trainer(None, method, kl_coef=0.0, kl_limit=limit, plan=plan)
    source: Any = trainer.source
    found: list[float] = []
    for record in trainer.steps():
        found.append(source.step_metrics()["kl"])
        over = source.should_stop(record.step)
        assert over == (found[-1] > limit and record.step == source.next_step)
        if over:
            break
    assert len(found) < 40
    assert all(kl <= limit for kl in found[: source.first_step])
    assert not any(source.should_stop(step) for step in (source.first_step + 1,))  # never inside a phase


def test_an_adaptive_leash_of_grpo_reaches_the_loss() -> None:
    """The coefficient that adapts is the one that the objective multiplies by."""
    trainer = tiny_trainer(None, "grpo", kl_target=1e-6, kl_coef=0.5, plan={"max_steps": 24})
    finish(trainer)
    objective: Any = trainer.objective
    source: Any = trainer.source
    assert objective.kl_controller is source.algorithm.kl_controller
    assert objective.kl_controller.coefficient > 0.5


def test_the_reward_goes_up() -> None:
    trainer = tiny_trainer(None, "grpo", group_size=16, kl_coef=0.0, plan={"max_steps": 40})
    found = []
    source: Any = trainer.source
    for _ in trainer.steps():
        found.append(source.step_metrics()["reward"])
    assert sum(found[-12:]) / 12 > sum(found[:12]) / 12 + 0.3


@pytest.mark.parametrize("method", METHODS)
def test_a_reward_that_fails_stops_the_run_and_keeps_what_was_learned(method: Any, tmp_path: Path) -> None:
    calls = {"n": 0}

    def failing(sample: SampledCompletion) -> float:
        calls["n"] += 1
        if calls["n"] > 32:  # in the third phase
            raise RuntimeError("out of order")
        return letters(sample)

    never: dict[str, Any] = {"plan": {"save_every": 1000}}
    broken = tiny_trainer(tmp_path, method, FunctionReward("mine", failing), **never)
    with pytest.raises(RewardError, match="out of order"):
        finish(broken)
    mended = tiny_trainer(tmp_path, method, **never)
    assert mended.first_step == 8
    unbroken = tiny_trainer(None, method)
    finish(unbroken)
    finish(mended)
    assert weights(mended) == weights(unbroken)


def test_groups_of_equal_rewards_teach_nothing_and_are_counted() -> None:
    trainer = tiny_trainer(None, "grpo", FunctionReward("same", lambda sample: 0.1), kl_coef=0.0)
    before = weights(trainer)
    source: Any = trainer.source
    for record in trainer.steps():
        assert record.loss == 0.0
        assert not record.skipped
        assert source.step_metrics()["zero_variance_groups"] == 1.0
    assert weights(trainer) == before


def test_rows_that_teach_nothing_are_left_out_and_change_no_gradient() -> None:
    """Without a KL penalty a group of equal rewards has no loss; it still counts in what the sum is divided by."""

    def some_equal(sample: SampledCompletion) -> float:
        return letters(sample) if "sings" in sample.messages[-1].content else 0.0

    gradients = []
    for leave_out in (True, False):
        trainer = tiny_trainer(
            None, "grpo", FunctionReward("some", some_equal), kl_coef=0.0, rollout_prompts=5, minibatches=1
        )
        source: Any = trainer.source
        batch = source.rows(0, 20)
        assert batch.n_counted == 20
        assert len(batch.input_ids) == 4
        if not leave_out:
            batch = replace(source.experience, informative=None).batch(np.arange(20))
            assert len(batch.input_ids) == 20
        micro = to_micro_batch(batch, torch.device("cpu"))
        (trainer.objective(trainer.model, micro) / batch.n_counted).backward()
        gradients.append({name: p.grad.clone() for name, p in trainer.model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-7), name


def test_what_was_cut_pays_for_it() -> None:
    free, dear = (tiny_trainer(None, "grpo", truncation_penalty=penalty) for penalty in (0.0, 5.0))
    for trainer in (free, dear):
        trainer.micro_batches(0)
    phases = [trainer.source.experience for trainer in (free, dear)]  # type: ignore[attr-defined]
    assert phases[0].rollouts.samples == phases[1].rollouts.samples
    ended = phases[1].rollouts.ended
    assert 0 < ended.sum() < len(ended)
    rows = phases[0].rollouts.rows
    change = (phases[1].advantages - phases[0].advantages)[rows.loss_mask]
    assert change.any()


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("grpo", {"group_size": 1}, "compares the completions"),
        ("grpo", {"kl_estimator": "k1"}, "would penalize nothing"),
        ("ppo", {"minibatches": 3}, "does not divide"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    method: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tiny_config(method, **settings)
