"""Advantages, whitening, KL estimates and the KL controller against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parakit.alignment.rl.advantages import (
    RunningMoments,
    generalised_advantages,
    group_advantages,
    last_positions,
    token_rewards,
    whitened,
)
from parakit.alignment.rl.kl import KLController, kl_estimate


def a_mask(generator: np.random.Generator, n: int = 6, longest: int = 9) -> np.ndarray:
    loss_mask = np.zeros((n, longest), bool)
    for row in range(n):
        begin = generator.integers(0, longest)
        loss_mask[row, begin : generator.integers(begin + 1, longest + 1)] = True
    return loss_mask


@given(
    st.integers(0, 10_000),
    st.floats(0, 1, allow_nan=False),
    st.floats(0, 1, allow_nan=False),
)
def test_generalised_advantages_are_the_sum_of_discounted_surprises(
    seed: int, discount: float, gae_lambda: float
) -> None:
    """Schulman et al. 2016, eq. 16: the sum over l of (discount lambda)^l delta_(t+l)."""
    generator = np.random.default_rng(seed)
    loss_mask = a_mask(generator)
    rewards, values = (generator.normal(size=loss_mask.shape) for _ in range(2))
    advantages, returns = generalised_advantages(rewards, values, loss_mask, discount, gae_lambda)
    assert not advantages[~loss_mask].any()
    assert not returns[~loss_mask].any()
    for row in range(len(loss_mask)):
        places = np.flatnonzero(loss_mask[row])
        deltas = []
        for place in places:
            following = values[row, place + 1] if place + 1 in places else 0.0
            deltas.append(rewards[row, place] + discount * following - values[row, place])
        for i, place in enumerate(places):
            wanted = sum((discount * gae_lambda) ** k * delta for k, delta in enumerate(deltas[i:]))
            assert advantages[row, place] == pytest.approx(wanted, abs=1e-9)
            assert returns[row, place] == pytest.approx(wanted + values[row, place], abs=1e-9)


def test_lambda_one_gives_returns_that_are_the_sum_of_what_follows() -> None:
    generator = np.random.default_rng(1)
    loss_mask = a_mask(generator)
    rewards, values = (generator.normal(size=loss_mask.shape) for _ in range(2))
    _, returns = generalised_advantages(rewards, values, loss_mask, 1.0, 1.0)
    for row in range(len(loss_mask)):
        for place in np.flatnonzero(loss_mask[row]):
            assert returns[row, place] == pytest.approx(rewards[row, place:][loss_mask[row, place:]].sum())


def test_the_reward_stands_at_the_last_token_and_the_penalty_at_every_one() -> None:
    loss_mask = np.array([[False, True, True, False], [True, False, False, False]])
    penalty = np.full(loss_mask.shape, -0.5)
    found = token_rewards(np.array([2.0, 3.0]), loss_mask, penalty)
    assert found.tolist() == [[0.0, -0.5, 1.5, 0.0], [2.5, 0.0, 0.0, 0.0]]
    assert last_positions(loss_mask).tolist() == [2, 0]


def test_whitening_counts_real_tokens_only() -> None:
    generator = np.random.default_rng(2)
    loss_mask = a_mask(generator)
    values = generator.normal(3, 2, loss_mask.shape)
    found = whitened(values, loss_mask)
    assert found[loss_mask].mean() == pytest.approx(0, abs=1e-9)
    assert found[loss_mask].std() == pytest.approx(1, abs=1e-6)
    assert not found[~loss_mask].any()
    changed = np.where(loss_mask, values, 1e6)  # what stands in the padding does not matter
    assert np.array_equal(whitened(changed, loss_mask), found)


def test_whitening_what_is_all_equal_gives_zeros() -> None:
    loss_mask = np.ones((2, 3), bool)
    assert not whitened(np.full((2, 3), 0.1), loss_mask).any()


@given(st.lists(st.floats(-100, 100, allow_nan=False), min_size=6, max_size=6), st.booleans())
def test_group_advantages_compare_within_a_group(rewards: list[float], divide: bool) -> None:
    values = np.array(rewards)
    found, n_equal = group_advantages(values, 3, divide)
    assert np.isfinite(found).all()
    equal = [len(set(rewards[i : i + 3])) == 1 for i in (0, 3)]
    assert n_equal == sum(equal)
    for i, same in zip((0, 3), equal, strict=True):
        group = values[i : i + 3]
        wanted = group - group.mean()
        if divide:
            wanted = wanted / (group.std(ddof=1) + 1e-4)
        assert np.allclose(found[i : i + 3], 0.0 if same else wanted)


def test_equal_rewards_give_advantages_of_exactly_zero() -> None:
    found, n_equal = group_advantages(np.array([0.1] * 7 + [0.2] * 7), 7, True)
    assert not found.any()
    assert n_equal == 2


def test_running_moments_are_those_of_everything_seen() -> None:
    generator = np.random.default_rng(3)
    parts = [generator.normal(5, 3, n) for n in (4, 1, 9)]
    moments = RunningMoments()
    for part in parts:
        moments.add(part)
    every = np.concatenate(parts)
    assert moments.mean == pytest.approx(every.mean())
    assert np.allclose(moments.normalize(every), (every - every.mean()) / every.std())
    constant = RunningMoments()
    constant.add(np.array([2.0, 2.0]))
    assert constant.normalize(np.array([2.0, 3.0])).tolist() == [0.0, 1.0]


def test_estimates_of_the_divergence_have_its_sign_and_mean() -> None:
    """Over all tokens of two distributions, weighted as the policy says them: k1 and k3 are the divergence."""
    torch.manual_seed(0)
    policy, reference = (torch.randn(50, dtype=torch.float64).log_softmax(0) for _ in range(2))
    divergence = float((policy.exp() * (policy - reference)).sum())
    assert divergence > 0
    for estimator in ("k1", "k3"):
        found = float((policy.exp() * kl_estimate(policy, reference, estimator)).sum())
        assert found == pytest.approx(divergence, rel=1e-9)
    for estimator in ("k2", "k3"):
        assert (kl_estimate(policy, reference, estimator) >= 0).all()
    near = (policy + 0.01 * torch.randn(50, dtype=torch.float64)).log_softmax(0)
    small = float((policy.exp() * (policy - near)).sum())
    assert float((policy.exp() * kl_estimate(policy, near, "k2")).sum()) == pytest.approx(small, rel=0.05)
    arrays = policy.numpy(), reference.numpy()
    assert np.allclose(kl_estimate(*arrays, "k3"), kl_estimate(policy, reference, "k3").numpy())


def test_k1_in_a_loss_would_be_no_leash() -> None:
    """On average its gradient is zero, and that of k2 is the divergence's; k3's lies the same way."""
    torch.manual_seed(1)
    logits = torch.randn(20, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(20, dtype=torch.float64).log_softmax(0)

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, logits)[0]

    policy = logits.log_softmax(0)
    wanted = gradient((policy.exp() * (policy - reference)).sum())
    found = {}
    for estimator in ("k1", "k2", "k3"):
        policy = logits.log_softmax(0)
        found[estimator] = gradient((policy.exp().detach() * kl_estimate(policy, reference, estimator)).sum())
    assert found["k1"].abs().max() < 1e-12
    assert torch.allclose(found["k2"], wanted, atol=1e-12)
    assert float(found["k3"] @ wanted) > 0


def test_an_adaptive_leash_pulls_towards_its_target() -> None:
    kl_controller = KLController(0.1, target=4.0)
    kl_controller.update(40.0)
    assert kl_controller.coefficient == pytest.approx(0.1 * 1.02)
    kl_controller.update(3.6)
    assert kl_controller.coefficient == pytest.approx(0.1 * 1.02 * 0.99)
    fixed = KLController(0.1)
    fixed.update(40.0)
    assert fixed.coefficient == 0.1
