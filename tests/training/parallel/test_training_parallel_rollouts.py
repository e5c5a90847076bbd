"""Completions and rewards of a phase, split over processes: the phase is that of one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from parakit.alignment.rl.prompts import SampledCompletion
from parakit.alignment.rl.rewards import FunctionReward
from parakit.common.errors import UserError
from parakit.common.processes import rank
from tests.alignment.rl.tiny_policy import letters
from tests.training.parallel.forked import in_processes
from tests.training.parallel.spread_runs import rl_trainer
from tests.training.tiny_runs import tiny_plan


def one_phase(method: str, parallel: str) -> dict[str, Any]:
    """What a process drew and scored in the first phase, and the phase as a whole."""
    drawn: list[slice] = []
    scored: list[str] = []

    def count(sample: SampledCompletion) -> float:
        scored.append(sample.completion)
        return letters(sample)

    trainer = rl_trainer(
        method, None, tiny_plan(max_steps=1, parallel=parallel), FunctionReward("mine", count)
    )
    source: Any = trainer.source
    draw = source.roll_out

    def note(prompts: Any, phase: int, part: slice) -> Any:
        drawn.append(part)
        return draw(prompts, phase, part)

    source.roll_out = note
    trainer.micro_batches(0)
    experience = source.experience
    rows = experience.rollouts.rows
    return {
        "drawn": drawn,
        "n_scored": len(scored),
        "target_ids": rows.target_ids,
        "loss_mask": rows.loss_mask,
        "numbers": [
            experience.rollouts.log_probs,
            experience.rollouts.reference_log_probs,
            experience.values,
            experience.advantages,
        ],
        "metrics": experience.metrics,
    }


@pytest.mark.parametrize(
    ("method", "n", "parallel"),
    [
        ("grpo", 2, "data"),
        pytest.param("ppo", 2, "shard", marks=pytest.mark.long),
        pytest.param("ppo", 3, "shard", marks=pytest.mark.long),
        pytest.param("grpo", 8, "data=4,tensor=2", marks=pytest.mark.long),
    ],
)
def test_processes_draw_a_part_each_and_have_the_phase_of_one(method: str, n: int, parallel: str) -> None:
    alone = one_phase(method, "auto")
    assert alone["drawn"] == [slice(0, 16)]
    found = in_processes(n, one_phase, method, parallel)
    parts = [part for one in found for part in one["drawn"]]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == 16
    assert max(part.stop - part.start for part in parts) == -(-16 // n)
    assert sum(one["n_scored"] for one in found) == 16
    for one in found:
        assert np.array_equal(one["target_ids"], alone["target_ids"])
        assert np.array_equal(one["loss_mask"], alone["loss_mask"])
        for mine, wanted in zip(one["numbers"], alone["numbers"], strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=0, atol=2e-5)
        assert one["metrics"] == pytest.approx(alone["metrics"], rel=1e-5, abs=1e-6)
        assert one["metrics"] == found[0]["metrics"]


def failing_phase() -> str:
    """The error of a phase whose reward fails in the second process."""

    def fail(sample: SampledCompletion) -> float:
        if rank() == 1:
            raise RuntimeError("out of order")
        return letters(sample)

    trainer = rl_trainer("grpo", None, tiny_plan(max_steps=1, parallel="data"), FunctionReward("mine", fail))
    with pytest.raises(UserError) as error:
        trainer.micro_batches(0)
    return type(error.value).__name__ + ": " + str(error.value)


def test_a_reward_that_fails_in_one_process_ends_all() -> None:
    first, second = in_processes(2, failing_phase)
    assert first.startswith("ProcessFailed: rank 1 failed (rewards): the reward 'mine' raised RuntimeError")
    assert second.startswith("RewardError: the reward 'mine' raised RuntimeError: out of order")
