"""The mistakes of online alignment, put back one by one: each is caught, or changes a figure of a correct run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from parakit.alignment.rl import advantages, rollouts
from parakit.alignment.rl.kl import kl_estimate
from parakit.alignment.rl.ppo import PPO, PPOObjective
from parakit.alignment.rl.rollouts import check_separate, frozen_copy, roll_out, score_rows
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.filters import filter_logits
from parakit.model import ActorCritic
from parakit.training.micro_batches import to_micro_batch
from tests.alignment.rl.tiny_policy import (
    tiny_config,
    tiny_policy,
    tiny_prompts,
    tiny_tokenizer,
    tiny_trainer,
)


def the_phase(**changes: Any) -> tuple[Any, Any, np.ndarray]:
    """A policy with a value head, and a phase of it with drawn rewards."""
    config = tiny_config("ppo", whiten_rewards=False, **changes)
    model = ActorCritic(tiny_policy())
    rollout, values = roll_out(
        model, frozen_copy(model.policy), tiny_tokenizer(), tiny_prompts()[:4], config, 0, True
    )
    rewards = np.random.default_rng(0).normal(size=len(rollout.samples))
    return model, PPO(config).make_experience(rollout, rewards, values), rewards


def test_dropout_in_the_reference_is_refused() -> None:
    policy = tiny_policy(dropout=0.3)
    reference = frozen_copy(policy.train())  # a copy of a policy in training is in evaluation mode too
    check_separate(policy, reference)
    reference.train()
    with pytest.raises(AssertionError, match="training mode"):
        check_separate(policy, reference)


def test_a_reference_that_shares_tensors_is_refused() -> None:
    policy = tiny_policy()
    with pytest.raises(AssertionError, match="shares tensors"):
        check_separate(policy, policy)
    one_shared = frozen_copy(policy)
    one_shared.trunk.final_norm.weight.data = policy.trunk.final_norm.weight.data
    with pytest.raises(AssertionError, match="shares tensors"):
        check_separate(policy, one_shared)


def test_the_reference_is_the_same_after_training() -> None:
    trainer = tiny_trainer(None, "ppo")
    source: Any = trainer.source
    list(trainer.steps())
    fresh = tiny_policy()  # the policy before training, and the reference
    rows = source.experience.rollouts.rows
    again = rollouts.token_log_probs(fresh, rows)
    np.testing.assert_allclose(again, source.experience.rollouts.reference_log_probs, rtol=0, atol=1e-5)
    assert not np.allclose(again, source.experience.rollouts.log_probs, atol=1e-3)


def test_the_kl_estimate_has_the_right_sign_and_no_padding() -> None:
    """On its own samples the policy is likelier than the reference; the sum is over completions only."""
    policy, reference = tiny_policy(), frozen_copy(tiny_policy(seed=1))
    config = tiny_config(group_size=64)
    rollout, _ = roll_out(policy, reference, tiny_tokenizer(), tiny_prompts()[:4], config, 0)
    counted = rollout.rows.loss_mask
    right = kl_estimate(rollout.log_probs, rollout.reference_log_probs, "k1")
    assert right[counted].sum() > 0
    assert kl_estimate(rollout.reference_log_probs, rollout.log_probs, "k1")[counted].sum() < 0
    assert not right[~counted].any()


def test_log_probabilities_of_sampling_differ_from_the_policys() -> None:
    """With the log-probabilities of sampling, the first step of a phase would not have ratio 1."""
    model, phase, _ = the_phase(temperature=0.5)
    objective = PPOObjective(tiny_config("ppo"))
    batch = phase.batch(np.arange(16))

    def moved(log_probs: np.ndarray) -> float:
        changed = {**vars(batch), "log_probs": log_probs.astype(np.float32)}
        objective(model, to_micro_batch(type(batch)(**changed), torch.device("cpu")))
        return objective.metrics.close_step()["kl_to_rollouts"]

    assert moved(batch.log_probs) == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        logits = model.logits(model.hidden(torch.from_numpy(batch.input_ids)))
    shape = logits.shape
    filtered = (
        filter_logits(logits.flatten(0, 1), SamplingConfig(temperature=0.5)).view(shape).log_softmax(-1)
    )
    of_sampling = filtered.gather(2, torch.from_numpy(batch.target_ids)[..., None]).squeeze(2).numpy()
    assert moved(np.where(batch.loss_mask, of_sampling, 0)) > 0.01


def test_advantages_do_not_see_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    _, phase, _ = the_phase()
    counted = phase.rollouts.rows.loss_mask
    assert not counted.all()
    assert phase.advantages[counted].std() == pytest.approx(1, abs=1e-4)
    assert not phase.advantages[~counted].any()

    def over_padding(values: np.ndarray, loss_mask: np.ndarray) -> np.ndarray:
        return (values - values.mean()) / values.std()

    monkeypatch.setattr("parakit.alignment.rl.ppo.whitened", over_padding)
    _, broken, _ = the_phase()
    assert abs(broken.advantages[counted].std() - 1) > 0.05


def test_a_group_of_equal_rewards_is_not_divided_by_zero() -> None:
    rollout, n_equal = advantages.group_advantages(np.full(8, 0.3), 4, True)
    assert rollout.tolist() == [0.0] * 8
    assert n_equal == 2


def test_a_fresh_value_head_moves_nothing_in_the_trunk() -> None:
    model, phase, _ = the_phase()
    batch = to_micro_batch(phase.batch(np.arange(16)), torch.device("cpu"))
    assert not phase.values.any()

    def trunk_gradient(value_coef: float, head: float) -> dict[str, torch.Tensor]:
        torch.nn.init.constant_(model.value_head.weight, head)
        model.zero_grad()
        PPOObjective(tiny_config("ppo", value_coef=value_coef))(model, batch).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if name.startswith("policy.")}

    without, right, broken = trunk_gradient(0.0, 0.0), trunk_gradient(1.0, 0.0), trunk_gradient(1.0, 0.5)
    assert all(torch.equal(without[name], right[name]) for name in without)
    assert any(not torch.allclose(without[name], broken[name]) for name in without)
    assert model.value_head.weight.grad.abs().sum() > 0  # the head itself trains from the first step


def test_the_reward_is_at_the_last_token_of_the_completion() -> None:
    """Without KL penalty and with lambda 1 every token's return is the reward; one token off, the last one's is not."""
    _, phase, rewards = the_phase(kl_coef=0.0, gae_lambda=1.0)
    loss_mask = phase.rollouts.rows.loss_mask
    last = advantages.last_positions(loss_mask)
    assert np.allclose(phase.returns[np.arange(len(last)), last], rewards, atol=1e-6)
    assert np.allclose(phase.returns[loss_mask], np.repeat(rewards, loss_mask.sum(1)), atol=1e-6)
    misplaced = np.zeros(loss_mask.shape)
    misplaced[np.arange(len(last)), last - 1] = rewards
    _, broken = advantages.generalised_advantages(misplaced, np.zeros(loss_mask.shape), loss_mask, 1.0, 1.0)
    assert not np.allclose(broken[np.arange(len(last)), last], rewards)


def test_a_value_head_is_scored_in_evaluation_mode_too() -> None:
    model = ActorCritic(tiny_policy(dropout=0.5)).train()
    torch.nn.init.constant_(model.value_head.weight, 0.5)
    rows = rollouts.token_rows([[5, 6, 7], [8]], [[1, 2], [3, 4, 9]])
    assert np.array_equal(score_rows(model, rows, True)[1], score_rows(model, rows, True)[1])
