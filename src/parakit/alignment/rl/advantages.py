"""Advantage estimation: GAE for PPO, group-relative advantages for GRPO.

Generalised advantage estimation (Schulman et al. 2016, eq. 16) needs values. Group-relative advantages (Shao et al. 2024,
section 4.1.2, "GRPO") take the other completions of the same prompt as the expectation. Only completion tokens count.

Shapes: N completions, T targets, padding and prompt included; P prompts, G completions of each.
"""

from __future__ import annotations

import numpy as np

GROUP_EPS = 1e-4  # nearly equal rewards must not turn rounding into advantages


def token_rewards(rewards: np.ndarray, loss_mask: np.ndarray, per_token: np.ndarray | None) -> np.ndarray:
    """(N, T): `rewards` (N,) at each completion's last token, and `per_token` (N, T), such as a KL penalty, at
    every token of it; zero elsewhere.
    """
    rewards_by_token = np.zeros(loss_mask.shape)
    if per_token is not None:
        rewards_by_token[loss_mask] = per_token[loss_mask]
    rewards_by_token[np.arange(len(rewards)), last_positions(loss_mask)] += rewards
    return rewards_by_token


def last_positions(loss_mask: np.ndarray) -> np.ndarray:
    """(N,): the position of each row's last counted target. Every row must have one."""
    assert loss_mask.any(1).all(), "a completion without tokens"
    return loss_mask.shape[1] - 1 - np.argmax(loss_mask[:, ::-1], axis=1)


def generalised_advantages(
    rewards: np.ndarray, values: np.ndarray, loss_mask: np.ndarray, discount: float, gae_lambda: float
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and returns (N, T) from token rewards and values (N, T), zero outside the completions.

    `values[i, t]` is the value before target t is generated. After a completion's last token the value is 0, also where
    the completion was truncated.
    """
    advantages = np.zeros(rewards.shape)
    running = np.zeros(len(rewards))
    next_values = np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        counts = loss_mask[:, t]
        delta = rewards[:, t] + discount * next_values - values[:, t]
        running = np.where(counts, delta + discount * gae_lambda * running, 0.0)
        next_values = np.where(counts, values[:, t], 0.0)
        advantages[:, t] = running
    return advantages, np.where(loss_mask, advantages + values, 0.0)


def whitened(values: np.ndarray, loss_mask: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the counted targets; zero elsewhere, and everywhere if all are equal."""
    counted = values[loss_mask]
    whitened_values = np.zeros(values.shape)
    if len(counted) > 1 and counted.max() > counted.min():
        whitened_values[loss_mask] = (counted - counted.mean()) / (counted.std() + 1e-8)
    return whitened_values


def group_advantages(rewards: np.ndarray, group_size: int, divide_by_std: bool) -> tuple[np.ndarray, int]:
    """Advantages (N,) of completions against their groups' means, and how many groups have zero variance.

    Each `group_size` consecutive rows belong to one prompt. Equal rewards give advantages of exactly 0. Without
    division by the group's standard deviation, easy and hard prompts keep their weight (Liu et al. 2025, "Dr. GRPO",
    section 3.2).
    """
    groups = rewards.reshape(-1, group_size)  # (P, G)
    equal = groups.max(1) == groups.min(1)
    advantages = np.where(equal[:, None], 0.0, groups - groups.mean(1, keepdims=True))
    if divide_by_std:
        advantages = advantages / (groups.std(1, ddof=1, keepdims=True) + GROUP_EPS)
    return advantages.reshape(-1), int(equal.sum())


class RunningMoments:
    """Mean and standard deviation of all rewards so far (Welford 1962), so that every phase is on one scale. Part of a
    checkpoint.
    """

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Include more values."""
        n, mean = len(values), float(values.mean())
        shift, total = mean - self.mean, self.n + n
        self.squares += float(((values - mean) ** 2).sum()) + shift**2 * self.n * n / total
        self.mean += shift * n / total
        self.n = total

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """`values` minus the mean, in standard deviations; in units of 1 while all are equal."""
        deviation = (self.squares / self.n) ** 0.5 if self.n else 0.0
        return (values - self.mean) / (deviation if deviation > 1e-8 else 1.0)
