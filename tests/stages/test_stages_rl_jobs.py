"""Alignment by a model's own completions as a job: folders in, a plain model folder out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parakit.alignment.config import AlignConfig
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage, open_artifact
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import (
    Conversation,
    Message,
    read_conversations,
    write_conversations,
)
from parakit.data.conversations.sets import prepare_conversations
from parakit.model import LanguageModel
from parakit.stages.alignment import AlignJob
from parakit.stages.job_builders import align
from tests.alignment.rl.tiny_policy import QUESTIONS, tiny_policy, tiny_tokenizer

SETTINGS: dict[str, Any] = {
    "max_new_tokens": 6, "group_size": 4, "seed": 2, "warmup_steps": 0, "max_steps": 4, "device": "cpu",
}  # fmt: skip
PHASES: dict[str, Any] = {"rollout_prompts": 4, "minibatches": 2, "ppo_epochs": 1}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tiny_policy(), tiny_tokenizer(), tmp_path / "model", Lineage("model", {}))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    texts = [f"{text} {place}" for text in QUESTIONS for place in ("here", "there", "now", "then")]
    write_conversations(
        file, (Conversation((Message("user", text), Message("assistant", "bird"))) for text in texts)
    )
    return file


def job(model: Path, data: Path, method: Any, reward: str | None = "length=3", **settings: Any) -> AlignJob:
    phases = PHASES if method != "best_of_n" else {}
    training = AlignConfig.parse(SETTINGS | phases | {"method": method, "reward": reward} | settings)
    return AlignJob(model, data, data.parent / "work", training)


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_a_policy_is_written_as_a_plain_model_folder(
    model: Path, prompts: Path, method: Any, tmp_path: Path
) -> None:
    figures = align(job(model, prompts, method), tmp_path / "out")
    found, tokenizer = load_model(tmp_path / "out")
    assert type(found) is LanguageModel
    assert tokenizer is not None
    assert not any("value_head" in name for name in found.state_dict())
    lineage = open_artifact(tmp_path / "out", "model").lineage
    assert lineage["parents"][0]["path"] == str(model)
    assert lineage["config"]["objective"] == method
    steps = figures["metrics"]
    wanted = {"reward", "kl", "clipped", "entropy", "length", "advantage_std", "kl_coef", "kl_to_rollouts"}
    wanted |= {"value_loss", "explained_variance"} if method == "ppo" else {"zero_variance_groups", "kl_loss"}
    assert all(wanted <= step.keys() for step in steps)
    assert [step["phase"] for step in steps] == [1, 1, 2, 2]
    assert {"reward", "kl", "length"} <= figures.keys()
    assert figures["before"]["kl"] == pytest.approx(0, abs=1e-6)
    assert {"prompt", "before", "after", "reward_before", "reward_after"} == figures["samples"][0].keys()
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_a_run_ends_at_its_limit_with_another_judge_beside_it(
    model: Path, prompts: Path, method: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first phase beyond the limit is the last; what is left of the plan is left."""
    align_job = job(model, prompts, method, kl_limit=1e-9, max_steps=40, learning_rate=0.05, validate_every=1)
    align_job = replace(
        align_job, training=align_job.training.replace(monitor_rewards=("length=1", "format=.*"))
    )
    figures = align(align_job, tmp_path / "out")
    assert figures["ended_by"] == "kl_limit"
    steps = figures["metrics"]
    assert figures["steps"] == len(steps) == figures["validations"][-1]["step"] < 40
    assert [row["kl"] > 1e-9 for row in steps[::2]] == [False] * (len(steps) // 2 - 1) + [True]
    assert figures["before"]["monitor format=.*"] == 1.0
    assert figures["monitor length=1"] != figures["reward"]
    assert {"distinct", "repeated", "reward_max"} <= figures["validations"][0].keys()
    assert {"distinct", "repeated"} <= figures["metrics"][0].keys()
    told = capsys.readouterr().err.count("warning: ")
    assert told == len(figures["warnings"])


def test_what_is_watched_is_measured_and_not_followed(model: Path, prompts: Path, tmp_path: Path) -> None:
    align_job = job(model, prompts, "grpo")
    figures = align(align_job, tmp_path / "alone")
    assert figures["ended_by"] == "max_steps"
    align(
        replace(align_job, training=align_job.training.replace(monitor_rewards=("length=1",))),
        tmp_path / "watched",
    )
    one, other = (load_model(tmp_path / name)[0].state_dict() for name in ("alone", "watched"))
    assert all(one[name].equal(other[name]) for name in one)


def test_the_best_answers_are_tuned_on(model: Path, prompts: Path, tmp_path: Path) -> None:
    folder = prepare_conversations([str(prompts)], tmp_path / "conversations", validation_fraction=0.2)
    align_job = job(model, folder, "best_of_n", max_steps=3, monitor_rewards=("length=1",))
    figures = align(align_job, tmp_path / "out")
    assert "monitor length=1" in figures
    chosen = list(read_conversations(tmp_path / "out" / "training" / "chosen.jsonl"))
    assert len(chosen) == figures["n_chosen"] > 1
    assert all(conversation.messages[-1].role == "assistant" for conversation in chosen)
    rewards = [point["reward"] for point in figures["curve"]]
    assert rewards == sorted(rewards)
    assert figures["steps"] == 3
    assert isinstance(load_model(tmp_path / "out")[0], LanguageModel)


@pytest.mark.parametrize(
    ("method", "reward", "settings", "says"),
    [
        ("ppo", None, {}, "no reward is set"),
        ("grpo", "length=3", {"max_new_tokens": 48}, "leaves no tokens"),
        (
            "grpo",
            "length=3",
            {"batch_tokens": 64},
            "`batch_tokens` is set but has no effect: it belongs to method",
        ),
        ("grpo", "length=3", {"compile": "on"}, "`compile`: Input should be"),
        ("grpo", "length=3", {"epochs": 2}, "both set how long"),
        ("best_of_n", "format=never", {}, "none of"),
    ],
)
def test_what_cannot_be_is_refused(
    model: Path,
    prompts: Path,
    method: Any,
    reward: str | None,
    settings: dict[str, Any],
    says: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=says):
        align(job(model, prompts, method, reward, **settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "fails_after"), [("grpo", 25), ("best_of_n", 70)])
def test_a_reward_that_fails_leaves_the_run_to_be_gone_on_with(
    model: Path,
    prompts: Path,
    method: Any,
    fails_after: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same command, the reward put right, ends as if nothing had happened, and asks for nothing twice."""
    align_job = job(model, prompts, method, f"python={__name__}:paid")
    align(align_job, tmp_path / "whole")
    n_asked = len(calls)
    calls.clear()
    monkeypatch.setitem(state, "fails_after", fails_after)
    with pytest.raises(UserError, match="raised RuntimeError: not today"):
        align(align_job, tmp_path / "out")
    assert list((tmp_path / "work").glob("*/step-*"))
    monkeypatch.setitem(state, "fails_after", 10**9)
    calls.clear()
    align(align_job, tmp_path / "out")
    assert len(calls) < n_asked
    one, other = (load_model(tmp_path / name)[0].state_dict() for name in ("whole", "out"))
    assert all(one[name].equal(other[name]) for name in one)


state = {"fails_after": 10**9}
calls: list[str] = []


def paid(messages: list[dict[str, str]], completion: str, answer: str | None) -> float:
    calls.append(completion)
    if len(calls) > state["fails_after"]:
        raise RuntimeError("not today")
    return float(len(completion))


@pytest.mark.usefixtures("isolation")
def test_answers_that_are_no_programs_earn_nothing_and_are_counted(model: Path, tmp_path: Path) -> None:
    """Nonsense is no program: every group is equal, nothing is learned from it, and no figure is NaN."""
    file = tmp_path / "programs.jsonl"
    chats = (Conversation((Message("user", f"{text} now"),), '["assert f(1) == 1"]') for text in QUESTIONS)
    write_conversations(file, chats)
    figures = align(job(model, file, "grpo", "unit_tests", kl_coef=0.0), tmp_path / "out")
    for step in figures["metrics"]:
        assert step["reward"] == step["tests_passed"] == step["tests_timed_out"] == 0
        assert step["zero_variance_groups"] == 1
        assert np.isfinite([value for value in step.values() if isinstance(value, float)]).all()
    before, after = load_model(model)[0].state_dict(), load_model(tmp_path / "out")[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "nothing to learn, nothing changed"


def test_a_row_without_tests_is_named_before_anything_is_learned(
    model: Path, prompts: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"needs tests, but there are none|cannot be confined"):
        align(job(model, prompts, "grpo", "unit_tests"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
