"""Rollouts with tools: the reward is the task's outcome, results are never counted, log-probabilities are the policy's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.alignment.config import GRPOConfig
from parakit.alignment.data_checks import check_rollout_prompts
from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion, compile_prompts
from parakit.alignment.rl.reward import RewardError, check_prompts, compute_rewards
from parakit.alignment.rl.rewards import parse_reward
from parakit.alignment.rl.rollouts import frozen_copy, roll_out, token_rows
from parakit.alignment.rl.tool_tasks import ToolTaskReward
from parakit.primer.tool_tasks import generate_tool_tasks
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from parakit.training.doctor import raise_first_failure
from tests.alignment.rl.tiny_policy import tiny_policy, tiny_tokenizer

TASKS = [conversation for _, conversation in generate_tool_tasks(7)]


def _sample(number: int, completion: str | None = None) -> SampledCompletion:
    conversation = TASKS[number]
    *before, last = conversation.messages
    return SampledCompletion(
        tuple(before), None, last.content if completion is None else completion, tests=conversation.tests
    )


def test_the_reward_is_the_outcome_and_its_metrics_count_calls() -> None:
    reward = parse_reward("tool_tasks")
    assert isinstance(reward, ToolTaskReward)
    assert compute_rewards(reward, [_sample(i) for i in range(7)]).tolist() == [1.0] * 7
    assert reward.metrics["valid_calls"] == 1.0
    assert compute_rewards(reward, [_sample(0, "It is 99."), _sample(1, "")]).tolist() == [0.0, 0.0]
    with pytest.raises(RewardError, match="kind: tools"):
        check_prompts(reward, [RLPrompt(TASKS[0].messages[:1], None, (1,))])


def test_rows_count_what_the_policy_wrote() -> None:
    tokenizer = tiny_tokenizer()
    chat = compile_chat(tokenizer, supported_form(tokenizer, TASKS[2]))
    n_prompt = chat.loss_mask.index(True)
    sample = SampledCompletion((), None, "", counted=tuple(chat.loss_mask[n_prompt:]))
    rows = token_rows([chat.token_ids[:n_prompt]], [chat.token_ids[n_prompt:]], [sample])
    assert rows.loss_mask[0].tolist() == chat.loss_mask[1:]
    assert rows.target_ids[0].tolist() == chat.token_ids[1:]


def test_rollouts_have_the_log_probabilities_of_the_policy() -> None:
    tokenizer = tiny_tokenizer()
    policy = tiny_policy(max_seq_len=2048)
    prompts = compile_prompts(tokenizer, TASKS[:2], 2000, "tasks")
    config = GRPOConfig(reward="tool_tasks", group_size=2, rollout_prompts=2, max_new_tokens=6)
    assert config.uses_tools
    rollouts, _ = roll_out(policy, frozen_copy(policy), tokenizer, prompts, config, phase=0)
    rows = rollouts.rows
    assert len(rollouts.samples) == 4
    assert all(sample.counted is not None for sample in rollouts.samples)
    with torch.no_grad():
        logs = policy(torch.from_numpy(rows.input_ids)).float().log_softmax(-1)
    expected = logs.gather(-1, torch.from_numpy(rows.target_ids)[..., None])[..., 0].numpy()
    mask = rows.loss_mask
    np.testing.assert_allclose(rollouts.log_probs[mask], expected[mask], atol=1e-4)
    np.testing.assert_allclose(rollouts.reference_log_probs[mask], expected[mask], atol=1e-4)
    assert not rollouts.log_probs[~mask].any()
    again, _ = roll_out(policy, frozen_copy(policy), tokenizer, prompts, config, phase=0)
    assert [one.completion for one in again.samples] == [one.completion for one in rollouts.samples]


def test_the_doctor_has_no_complaint_about_prompts_in_the_plain_form() -> None:
    tokenizer = tiny_tokenizer()
    prompts = compile_prompts(tokenizer, TASKS, 2000, "tasks")
    raise_first_failure(check_rollout_prompts(prompts, tokenizer))
