"""Signs of following a reward too far: none at the start, each where it belongs, the same after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.alignment.rl.overoptimization import Watch, first_signs, signs, texture
from parakit.alignment.rl.policy_eval import measure_policy
from parakit.alignment.rl.rewards import Rule
from parakit.alignment.rl.rollouts import frozen_copy
from tests.alignment.rl.tiny_policy import letters, tiny_config, tiny_policy, tiny_prompts, tiny_tokenizer

START: dict[str, Any] = {
    "reward": 1.0, "reward_std": 0.5, "reward_high": 2.0, "kl": 0.0, "length": 10.0, "distinct": 0.6,
    "repeated": 0.0, "answers": 128, "watched gold": 3.0, "watched gold std": 1.0,
}  # fmt: skip


def seen(learnt: bool = True, settings: dict[str, Any] | None = None, **now: Any) -> dict[str, str]:
    return signs(START, [START | now], tiny_config(**settings or {}), learnt)


def test_texture_counts_different_answers_and_triples_said_before() -> None:
    looping, plain, short = [1, 2, 3, 1, 2, 3, 1], [1, 2, 3, 4], [5, 6]
    found = texture([looping, plain, plain, short])
    assert found["distinct"] == pytest.approx(3 / 4)
    triples = [tuple(looping[i : i + 3]) for i in range(5)]
    assert found["repeated"] == pytest.approx((1 - len(set(triples)) / 5) / 4)


def test_the_start_itself_shows_no_sign() -> None:
    policy, others = tiny_policy(), (Rule("gold", letters),)
    config, reward = tiny_config(), Rule("vowels", letters)
    found = measure_policy(
        policy, frozen_copy(policy), tiny_tokenizer(), tiny_prompts(), reward, config, others
    )
    assert found["watched gold"] == found["reward"]
    assert found["reward_high"] >= found["reward"]
    assert signs(found, [found], config, learnt=True) == {}


@pytest.mark.parametrize(
    ("sign", "now"),
    [
        ("far", {"kl": 10.5}),
        ("alike", {"distinct": 0.29}),
        ("circular", {"repeated": 0.11}),
        ("length", {"length": 15.5}),
        ("length", {"length": 6.5}),
        ("beyond", {"reward": 2.01}),
        ("watched gold", {"watched gold": 2.7}),
    ],
)
def test_each_sign_is_seen_and_no_other(sign: str, now: dict[str, float]) -> None:
    assert list(seen(**now)) == [sign]


def test_what_is_still_in_order_is_no_sign() -> None:
    now = {"kl": 9.9, "distinct": 0.3, "repeated": 0.1, "length": 15.0, "reward": 2.0, "watched gold": 2.75}
    assert seen(**now) == {}
    assert seen(reward=5.0, learnt=False) == {}  # a checked reward is true at any height


def test_a_leash_with_a_target_is_judged_by_its_target() -> None:
    assert list(seen(kl=6.1, settings={"kl_target": 3.0})) == ["far"]
    assert seen(kl=12.0, settings={"kl_target": 8.0}) == {}


def test_a_judge_that_is_watched_is_compared_with_its_best() -> None:
    rose = [START | {"watched gold": value} for value in (3.5, 4.0, 3.6)]
    found = signs(START, rose, tiny_config(), learnt=True)
    assert "fell from 4.000 to 3.600" in found["watched gold"]


def test_a_fall_that_few_answers_could_show_by_chance_is_no_sign() -> None:
    """Of 16 answers two means lie 0.35 deviations apart, one standard error of their difference."""
    assert seen(answers=16, **{"watched gold": 2.35}) == {}
    assert list(seen(answers=16, **{"watched gold": 2.25})) == ["watched gold"]


def test_every_sign_is_told_once_and_kept_with_its_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [START | {"kind": "validation", "step": step, "kl": float(5 * step)} for step in (1, 2, 3, 4)]
    config = tiny_config()

    def measure(watch: Watch, row: dict[str, Any]) -> None:
        watch.seen(row)
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"kind": "step", "step": row["step"]}) + "\n" + json.dumps(row) + "\n")

    watch = Watch("grpo", START, config, True, tmp_path)
    for row in rows[:3]:
        measure(watch, row)
    again = Watch("grpo", START, config, True, tmp_path)  # gone on with after an interruption
    measure(again, rows[3])
    assert again.signs() == first_signs(START, rows, config, True)
    assert [(sign["sign"], sign["step"]) for sign in again.signs()] == [("far", 3)]
    said = capsys.readouterr().err
    assert said.count("beware: kl 15.0") == 1
    assert said.count("beware: kl 20.0") == 1  # the one who goes on was not told yet
