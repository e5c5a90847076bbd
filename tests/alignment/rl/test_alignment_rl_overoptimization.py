"""Overoptimization warnings: none at the start, each one alone, the same after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.alignment.rl.overoptimization import (
    OveroptimizationMonitor,
    detect_warnings,
    diversity_metrics,
    first_warnings,
)
from parakit.alignment.rl.policy_eval import evaluate_policy
from parakit.alignment.rl.rewards import FunctionReward
from parakit.alignment.rl.rollouts import frozen_copy
from tests.alignment.rl.tiny_policy import letters, tiny_config, tiny_policy, tiny_prompts, tiny_tokenizer

START: dict[str, Any] = {
    "reward": 1.0, "reward_std": 0.5, "reward_max": 2.0, "kl": 0.0, "length": 10.0, "distinct": 0.6,
    "repeated": 0.0, "completions": 128, "monitor gold": 3.0, "monitor gold std": 1.0,
}  # fmt: skip


def warned(
    is_reward_model: bool = True, settings: dict[str, Any] | None = None, **now: Any
) -> dict[str, str]:
    return detect_warnings(START, [START | now], tiny_config(**settings or {}), is_reward_model)


def test_diversity_metrics_count_distinct_completions_and_repeated_trigrams() -> None:
    looping, plain, short = [1, 2, 3, 1, 2, 3, 1], [1, 2, 3, 4], [5, 6]
    found = diversity_metrics([looping, plain, plain, short])
    assert found["distinct"] == pytest.approx(3 / 4)
    triples = [tuple(looping[i : i + 3]) for i in range(5)]
    assert found["repeated"] == pytest.approx((1 - len(set(triples)) / 5) / 4)


def test_the_start_itself_raises_no_warning() -> None:
    policy, others = tiny_policy(), (FunctionReward("gold", letters),)
    config, reward = tiny_config(), FunctionReward("vowels", letters)
    found = evaluate_policy(
        policy, frozen_copy(policy), tiny_tokenizer(), tiny_prompts(), reward, config, others
    )
    assert found["monitor gold"] == found["reward"]
    assert found["reward_max"] >= found["reward"]
    assert detect_warnings(found, [found], config, is_reward_model=True) == {}


@pytest.mark.parametrize(
    ("warning", "now"),
    [
        ("kl_high", {"kl": 10.5}),
        ("mode_collapse", {"distinct": 0.29}),
        ("repetition", {"repeated": 0.11}),
        ("length", {"length": 15.5}),
        ("length", {"length": 6.5}),
        ("out_of_range", {"reward": 2.01}),
        ("monitor gold", {"monitor gold": 2.7}),
    ],
)
def test_each_warning_is_raised_alone(warning: str, now: dict[str, float]) -> None:
    assert list(warned(**now)) == [warning]


def test_values_within_the_limits_raise_no_warning() -> None:
    now = {"kl": 9.9, "distinct": 0.3, "repeated": 0.1, "length": 15.0, "reward": 2.0, "monitor gold": 2.75}
    assert warned(**now) == {}
    assert warned(reward=5.0, is_reward_model=False) == {}  # a rule is right at any value


def test_kl_is_compared_with_kl_target_where_there_is_one() -> None:
    assert list(warned(kl=6.1, settings={"kl_target": 3.0})) == ["kl_high"]
    assert warned(kl=12.0, settings={"kl_target": 8.0}) == {}


def test_a_monitored_reward_is_compared_with_its_best() -> None:
    rose = [START | {"monitor gold": value} for value in (3.5, 4.0, 3.6)]
    found = detect_warnings(START, rose, tiny_config(), is_reward_model=True)
    assert "fell from 4.000 to 3.600" in found["monitor gold"]


def test_a_drop_within_sampling_error_raises_no_warning() -> None:
    """The difference of two means of 16 completions has a standard error of 0.35 standard deviations."""
    assert warned(completions=16, **{"monitor gold": 2.35}) == {}
    assert list(warned(completions=16, **{"monitor gold": 2.25})) == ["monitor gold"]


def test_each_warning_is_printed_once_and_kept_with_its_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [START | {"kind": "validation", "step": step, "kl": float(5 * step)} for step in (1, 2, 3, 4)]
    config = tiny_config()

    def measure(monitor: OveroptimizationMonitor, row: dict[str, Any]) -> None:
        monitor.check(row)
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"kind": "step", "step": row["step"]}) + "\n" + json.dumps(row) + "\n")

    monitor = OveroptimizationMonitor("grpo", START, config, True, tmp_path)
    for row in rows[:3]:
        measure(monitor, row)
    again = OveroptimizationMonitor("grpo", START, config, True, tmp_path)  # resumed
    measure(again, rows[3])
    assert again.warnings() == first_warnings(START, rows, config, True)
    assert [(row["warning"], row["step"]) for row in again.warnings()] == [("kl_high", 3)]
    printed = capsys.readouterr().err
    assert printed.count("warning: kl 15.0") == 1
    assert printed.count("warning: kl 20.0") == 1  # the resumed process has not printed it yet
