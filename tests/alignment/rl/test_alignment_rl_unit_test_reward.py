"""Unit tests as a reward: what of a completion is the program, what it earns, and GRPO that learns from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parakit.alignment.rl.grpo import GRPO, GRPOObjective
from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion, compile_prompts, read_prompts
from parakit.alignment.rl.reward import RewardError, check_prompts, compute_rewards
from parakit.alignment.rl.rewards import parse_reward
from parakit.alignment.rl.rollout_source import PolicyRolloutSource
from parakit.alignment.rl.rollouts import frozen_copy, log_probs_and_entropy, roll_out, token_rows
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message, read_conversations
from parakit.data.conversations.sets import prepare_conversations
from parakit.model import LanguageModel
from parakit.sandbox import pool
from parakit.sandbox.fenced_code import code_of
from parakit.tokens.chat.template import compile_chat
from parakit.training.trainer import Trainer
from tests.alignment.rl.tiny_policy import QUESTIONS, tiny_config, tiny_plan, tiny_policy, tiny_tokenizer

ASKED = (Message("user", "Write add."),)
TESTS = json.dumps(["assert add(2, 3) == 5", "assert add(0, 0) == 0"])


def sample(completion: str, tests: str | None = TESTS) -> SampledCompletion:
    return SampledCompletion(ASKED, None, completion, tests=tests)


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("x = 1", "x = 1"),
        ("Here:\n```python\nx = 1\n```\nand\n```py\nx += 1\n```\nDone.", "x = 1\n\nx += 1\n"),
        ("```\nx = 1\n```\nIt prints\n```\n1\n```", "x = 1\n"),
        ("Run\n```bash\nls\n```\nthen\n```Python\nx = 1\n```", "x = 1\n"),
        ("```python title=a.py\nx = 1\nand the rest was cut", "x = 1\nand the rest was cut"),
        ("  ```python\n  x = 1\n  ```", "  x = 1\n"),
        ("no code at all", "no code at all"),
        ("inline ```x``` is none", "inline ```x``` is none"),
    ],
)
def test_the_program_of_a_completion(completion: str, code: str) -> None:
    assert code_of(completion) == code


@pytest.mark.usefixtures("isolation")
def test_all_tests_or_a_share_of_them() -> None:
    completions = [
        "```python\ndef add(a, b):\n    return a + b\n```",
        "def add(a, b): return a * b",
        "def add(a, b): return 5",
        "I would rather not.",
        "def add(a, b):\n    while True: pass",
    ]
    samples = [
        sample(text, TESTS.replace("[", '{"cpu_seconds": 1, "asserts": [') + "}") for text in completions
    ]
    strict, share = parse_reward("unit_tests"), parse_reward("unit_tests=share")
    assert compute_rewards(strict, samples).tolist() == [1, 0, 0, 0, 0]
    assert strict.metrics == {"tests_passed": 0.2, "tests_timed_out": 0.2}  # type: ignore[attr-defined]
    assert compute_rewards(share, samples[:4]).tolist() == [1, 0.5, 0.5, 0]


@pytest.mark.usefixtures("isolation")
@pytest.mark.parametrize(
    ("tests", "says"),
    [
        (None, "needs tests, but there are none"),
        ('["assert 1 == 1"]', "calls nothing of the program"),
        ('["assert add(1, 2 == 3"]', "test 1 is not valid Python"),
        ('"assert add(1, 2) == 3"', "tests are str"),
        ('{"check": "def check(c): pass"}', "entry_point is None"),
        ('{"check": "def test(c): pass", "entry_point": "add"}', "defines no function of that name"),
        (
            '{"check": "def check(c): assert c(1) == ax", "entry_point": "add"}',
            "uses 'ax', which is not defined",
        ),
        ('{"asserts": ["assert add(1) == 1"], "assert": 1}', "unknown key 'assert'"),
        ('{"asserts": ["assert add(1) == 1"], "cpu_seconds": 900}', "cpu_seconds = 900"),
        ("[]", "not a list of tests"),
        ("[1]", "test 1 is int, not Python source"),
    ],
)
def test_a_prompt_without_proper_tests_is_named_before_anything_is_learned(
    tests: str | None, says: str
) -> None:
    reward = parse_reward("unit_tests")
    right = RLPrompt(ASKED, None, (1,), TESTS)
    check_prompts(reward, [right])
    with pytest.raises(RewardError, match="Write add") as error:
        check_prompts(reward, [right, RLPrompt(ASKED, None, (1,), tests)])
    assert says in str(error.value)


@pytest.mark.usefixtures("isolation")
def test_tests_that_are_wrong_themselves_stop_the_run() -> None:
    """A zero for every completion would teach nothing, in silence."""
    broken = json.dumps({"asserts": ["import numpy\nassert add(1, 2) == 3"]})
    with pytest.raises(RewardError, match=r"tests are broken: .*numpy.*Write add"):
        compute_rewards(parse_reward("unit_tests"), [sample("def add(a, b): return a + b", broken)])


def test_other_ways_to_count_are_refused() -> None:
    with pytest.raises(UserError, match="unit_tests=most"):
        parse_reward("unit_tests=most")


def test_without_isolation_the_reward_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_probe_isolation", lambda: (None, "nothing confines"))
    with pytest.raises(UserError, match="cannot be confined on this machine"):
        parse_reward("unit_tests")


def test_tests_come_along_from_a_file_and_through_a_folder(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{question} {n}"}, {"role": "assistant", "content": "x"}],
         "tests": ["assert f(é=1) == 1"]}
        for n, question in enumerate(QUESTIONS * 4)
    ]  # fmt: skip
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare_conversations([str(file)], tmp_path / "folder")
    for source in (file, tmp_path / "folder"):
        found = read_prompts(source, tiny_tokenizer(), 40)
        assert {json.loads(prompt.tests or "")[0] for prompt in found} == {"assert f(é=1) == 1"}
    (first, *_) = read_conversations(file)
    assert first.to_row() == rows[0]


# --- GRPO


def programmer(answers: tuple[str, ...]) -> tuple[LanguageModel, list[RLPrompt]]:
    """A tiny policy that says each of `answers` about as often, whatever it is prompts."""
    tokenizer, policy = tiny_tokenizer(), tiny_policy(d_model=32, head_dim=16, d_ff=64)
    tests = json.dumps(["assert f(2, 3) == 3", "assert f(5, 4) == 5"])
    prompts = [Conversation((Message("user", text),), tests) for text in QUESTIONS]
    prompts = compile_prompts(tokenizer, prompts, 36, "test")
    pairs = []
    for prompt in prompts:
        for answer in answers:
            whole = compile_chat(tokenizer, [*prompt.messages, Message("assistant", answer)]).token_ids
            pairs.append((prompt.token_ids, whole[len(prompt.token_ids) :]))
    rows = token_rows(*zip(*pairs, strict=True))
    tensors = [torch.from_numpy(array) for array in (rows.input_ids, rows.target_ids, rows.loss_mask)]
    optimizer = torch.optim.Adam(policy.parameters(), 0.01)
    for _ in range(60):
        loss = -log_probs_and_entropy(policy, *tensors)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.eval(), prompts


@pytest.mark.usefixtures("isolation")
def test_grpo_learns_to_write_what_passes() -> None:
    """Three programs, one right, one wrong, one that is none; every reward is a number, and the right one wins."""
    policy, prompts = programmer(("f = max", "f = min", "f = (("))
    config = tiny_config(group_size=8, max_new_tokens=9, kl_coef=0.0, ppo_epochs=1)
    reference, algorithm = frozen_copy(policy), GRPO(config)
    objective = GRPOObjective(config, algorithm.kl_controller)

    def roll(prompts: Any, phase: int, part: slice) -> Any:
        return roll_out(policy, reference, tiny_tokenizer(), prompts, config, phase, part=part)

    reward = parse_reward("unit_tests")
    source = PolicyRolloutSource(prompts, roll, reward, algorithm, objective.metrics, config)
    plan = tiny_plan(config, max_steps=24, learning_rate=0.01)
    records = list(Trainer(policy, source, objective, plan, None).steps())
    figures = source.step_metrics()
    assert len(records) == 24
    assert all(np.isfinite(record.loss) for record in records)
    assert figures["reward"] == figures["tests_passed"] > 0.9
    assert figures["tests_timed_out"] == 0
    before, _ = roll_out(reference, reference, tiny_tokenizer(), prompts, config, 99)
    assert 0.1 < compute_rewards(reward, before.samples).mean() < 0.7
