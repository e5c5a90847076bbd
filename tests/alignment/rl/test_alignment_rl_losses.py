"""Losses and gradients of PPO and GRPO against a derivation in float64, token by token."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from parakit.alignment.rl import batches
from parakit.alignment.rl.batches import prefix_tree_of, shared_lengths
from parakit.alignment.rl.grpo import GRPO, GRPOObjective, token_weights
from parakit.alignment.rl.kl import KLController
from parakit.alignment.rl.ppo import PPOObjective
from parakit.model import ActorCritic, LanguageModel
from parakit.model.layers import tree_attention
from parakit.training.loop import accumulate_gradients
from parakit.training.precision import Precision
from tests.alignment.rl.tiny_policy import random_micro_batch, tiny_config, tiny_policy

CLIP, VALUE_CLIP, VALUE_COEF, KL_COEF = 0.2, 0.3, 0.7, 0.3


def near_policy(model: Any, **changes: Any) -> Any:
    """A batch whose old log-probabilities lie about the policy's own, so that some ratios are clipped."""
    batch = random_micro_batch(**changes)
    with torch.no_grad():
        logs = model.logits(model.hidden(batch.input_ids)).log_softmax(-1)
        own = logs.gather(2, batch.target_ids[..., None]).squeeze(2)
    return replace(
        batch,
        log_probs=own + 0.25 * batch.log_probs,
        reference_log_probs=own + 0.5 * batch.reference_log_probs,
    )


def by_hand(model: Any, batch: Any, weights: Tensor, kl: str | None, values: bool) -> Tensor:
    """The sum over counted tokens, written out one token at a time."""
    hidden = model.hidden(batch.input_ids)
    logits = model.logits(hidden)
    total = torch.zeros((), dtype=torch.float64)
    for row, place in batch.loss_mask.nonzero().tolist():
        chosen = int(batch.target_ids[row, place])
        log_prob = logits[row, place, chosen] - torch.logsumexp(logits[row, place], 0)
        ratio = torch.exp(log_prob - batch.log_probs[row, place])
        advantage = float(batch.advantages[row, place])
        bounded = min(max(ratio.item(), 1 - CLIP), 1 + CLIP)
        loss = -ratio * advantage
        if -bounded * advantage > loss.item():  # the worse of the two counts, and the bound has no gradient
            loss = torch.tensor(-bounded * advantage, dtype=torch.float64)
        if kl:
            r = log_prob - batch.reference_log_probs[row, place]
            loss = loss + KL_COEF * {"k2": r * r / 2, "k3": torch.exp(-r) - 1 + r}[kl]
        if values:
            value = model.value_head(hidden[row, place])[0]
            old, wanted = float(batch.values[row, place]), float(batch.returns[row, place])
            error = (value - wanted) ** 2
            moved = min(max(value.item() - old, -VALUE_CLIP), VALUE_CLIP) + old
            if (moved - wanted) ** 2 > error.item():
                error = torch.tensor((moved - wanted) ** 2, dtype=torch.float64)
            loss = loss + VALUE_COEF * error / 2
        total = total + loss * weights[row, place]
    return total


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: Any, actual: Tensor, by_hand_: Tensor) -> None:
    assert actual.item() == pytest.approx(by_hand_.item(), abs=1e-9)
    one, other = gradients(model, actual), gradients(model, by_hand_)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-9, rtol=1e-6), name


def test_ppo_is_its_derivation_token_by_token() -> None:
    model = ActorCritic(tiny_policy(torch.float64))
    torch.nn.init.normal_(model.value_head.weight, std=0.3)
    batch = near_policy(model)
    config = tiny_config("ppo", clip_range=CLIP, value_clip_range=VALUE_CLIP, value_coef=VALUE_COEF)
    objective = PPOObjective(config)
    assert_same(model, objective(model, batch), by_hand(model, batch, batch.weights, None, values=True))
    figures = objective.metrics.close_step()
    assert 0 < figures["clipped"] < 1
    assert figures["entropy"] > 0


@pytest.mark.parametrize("loss_norm", ["completion", "token", "constant"])
@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_grpo_is_its_derivation_token_by_token(loss_norm: Any, estimator: Any) -> None:
    model = tiny_policy(torch.float64)
    config = tiny_config(clip_range=CLIP, kl_coef=KL_COEF, kl_estimator=estimator, loss_norm=loss_norm)
    plain = near_policy(model)
    weights = torch.from_numpy(
        token_weights(plain.loss_mask.numpy(), loss_norm, config.max_new_tokens)
    ).double()
    batch = replace(plain, weights=weights, n_counted=5)
    lengths = plain.loss_mask.sum(1).tolist()
    divisors = {"completion": lengths, "token": [1] * 5, "constant": [config.max_new_tokens] * 5}[loss_norm]
    for row in range(5):
        assert weights[row].sum() == pytest.approx(lengths[row] / divisors[row], rel=1e-6)
    actual = GRPOObjective(config, KLController(KL_COEF))(model, batch)
    assert_same(model, actual, by_hand(model, batch, weights, estimator, values=False))


def test_the_first_step_of_a_phase_is_the_plain_policy_gradient() -> None:
    """At ratio 1 the loss is minus the mean advantage, and its gradient that of advantage times log-probability."""
    model = tiny_policy(torch.float64)
    batch = near_policy(model)
    logs = model.logits(model.hidden(batch.input_ids)).log_softmax(-1)
    own = logs.gather(2, batch.target_ids[..., None]).squeeze(2)
    batch = replace(batch, log_probs=own.detach())
    config = tiny_config(kl_coef=0.0)
    actual = GRPOObjective(config, KLController(0.0))(model, batch)
    plain = -(own * batch.advantages * batch.weights).sum()
    assert actual.item() == pytest.approx(-float((batch.advantages * batch.weights).sum()), abs=1e-9)
    one, other = gradients(model, actual), gradients(model, plain)
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-9), name


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_gradients_do_not_depend_on_micro_batches(method: Any) -> None:
    policy = tiny_policy(torch.float64)
    model: Any = ActorCritic(policy) if method == "ppo" else policy
    config = tiny_config(method)
    objective: Any = PPOObjective(config) if method == "ppo" else GRPOObjective(config, KLController(KL_COEF))
    batch = near_policy(model)

    def part(rows: slice) -> Any:
        tensors = {name: value[rows] for name, value in vars(batch).items() if isinstance(value, Tensor)}
        return replace(batch, **tensors, n_counted=int(tensors["loss_mask"].sum()))

    found = []
    for parts in ([batch], [part(slice(0, 2)), part(slice(2, 5))]):
        model.zero_grad()
        precision = Precision("float32", torch.device("cpu"))
        loss = accumulate_gradients(model, parts, objective, precision, batch.n_counted)
        found.append((loss, {name: p.grad.clone() for name, p in model.named_parameters()}))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-12)
    for name, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][name], atol=1e-12), name


def test_figures_are_means_over_the_tokens_of_a_step() -> None:
    model: LanguageModel = tiny_policy(torch.float64)
    batch = near_policy(model)
    objective = GRPOObjective(tiny_config(), KLController(0.0))
    objective(model, batch)
    figures = objective.metrics.close_step()
    with torch.no_grad():
        logs = model(batch.input_ids).log_softmax(-1)[batch.loss_mask]
    entropy = -(logs.exp() * logs).sum(-1).mean()
    assert figures["entropy"] == pytest.approx(float(entropy), rel=1e-6)
    own = logs.gather(1, batch.target_ids[batch.loss_mask][:, None]).squeeze(1)
    ratio = (own - batch.log_probs[batch.loss_mask]).tolist()
    wanted = sum(math.exp(r) - 1 - r for r in ratio) / len(ratio)
    assert figures["kl_to_rollouts"] == pytest.approx(wanted, rel=1e-6)


def test_the_learning_state_of_grpo_is_its_leash() -> None:
    algorithm = GRPO(tiny_config(kl_coef=0.1, kl_target=2.0))
    algorithm.update_kl(9.0)
    other = GRPO(tiny_config(kl_coef=0.1, kl_target=2.0))
    other.load_state(algorithm.state())
    assert other.kl_controller.coefficient == pytest.approx(0.1 * 1.02)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("shares", ["prompts", "a beginning"])
@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_prompts_read_once_change_neither_loss_nor_gradient(
    method: str, shares: str, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: two answers each to two prompts, the last row answers a prompt of its own; or all prompts differ, and begin
    alike.
    """
    monkeypatch.setattr(tree_attention, "MIN_ROW", 1)
    monkeypatch.setattr(tree_attention, "MIN_SEGMENT", 1)
    monkeypatch.setattr(batches, "MIN_SHARED", 2)
    config = tiny_config(method, clip_range=CLIP, kl_coef=KL_COEF)
    policy = tiny_policy(torch.float64)
    model: Any = ActorCritic(policy) if method == "ppo" else policy
    batch = random_micro_batch()
    ids, counted = batch.input_ids.clone(), batch.loss_mask.clone()
    if shares == "prompts":
        for row in (1, 3):  # neighbours that answer the same
            ids[row, :3], counted[row, :2] = ids[row - 1, :3], False
            counted[row - 1, :2] = False
            counted[[row - 1, row], 2] = True
    else:
        ids[:, :2], ids[:, 2] = ids[0, :2], torch.arange(5)
        counted[:, :2], counted[:, 2] = False, True
    apart = replace(batch, input_ids=ids, loss_mask=counted)
    laid = prefix_tree_of(ids.numpy(), counted.numpy(), torch.device("cpu"), wide)
    shared = replace(apart, prefix_tree=laid)
    n_saved = int(apart.real_mask.sum()) - int(laid.real_mask.sum())
    assert n_saved == 6 if shares == "prompts" else n_saved >= 4
    assert len(laid.input_ids) == 1 or not wide

    objective: Any = PPOObjective(config) if method == "ppo" else GRPOObjective(config, KLController(KL_COEF))
    losses = [objective(model, one) for one in (apart, shared)]
    torch.testing.assert_close(*losses, rtol=1e-9, atol=1e-12)
    first, second = (torch.autograd.grad(loss, list(model.parameters())) for loss in losses)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_rows_share_their_prompt_or_what_prompts_begin_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MIN_SHARED", 2)
    ids = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 9, 4], [1, 2, 8, 4], [1, 2, 8, 7]])
    assert shared_lengths(ids, np.array([3, 3, 3, 4, 4])).tolist() == [3, 3, 2, 2, 2]
    assert shared_lengths(ids, np.array([3, 3, 3, 3, 3])).tolist() == [3, 3, 3, 3, 3]  # one is alone
    assert shared_lengths(ids[2:], np.array([1, 2, 2])).tolist() == [1, 2, 2]
    monkeypatch.setattr(batches, "MIN_SHARED", 3)
    assert shared_lengths(ids, np.array([3, 3, 3, 4, 4])).tolist() == [3, 3, 3, 4, 4]
