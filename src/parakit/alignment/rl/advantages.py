"""Advantages: how much better than expected what was said turned out, token by token.

Generalised advantage estimation (Schulman et al. 2016, eq. 16) needs values; group-relative advantages (Shao et
al. 2024, section 4.1.2, "GRPO") take the other completions of the same prompt for the expectation. Everything
counts over the completions' real tokens only.

Shapes: N completions, T targets, padding and prompt included; P prompts, G completions of each.
"""

from __future__ import annotations

import numpy as np

GROUP_EPS = 1e-4  # keeps a group of nearly equal rewards from growing noise into advantages


def token_rewards(rewards: np.ndarray, loss_mask: np.ndarray, per_token: np.ndarray | None) -> np.ndarray:
    """(N, T): `rewards` (N,) at each completion's last token, and `per_token` (N, T), such as a KL penalty, at
    every token of it; zero elsewhere.
    """
    found = np.zeros(loss_mask.shape)
    if per_token is not None:
        found[loss_mask] = per_token[loss_mask]
    found[np.arange(len(rewards)), last_places(loss_mask)] += rewards
    return found


def last_places(loss_mask: np.ndarray) -> np.ndarray:
    """(N,): where each row's last counted target stands. Every row must have one."""
    assert loss_mask.any(1).all(), "a completion without tokens"
    return loss_mask.shape[1] - 1 - np.argmax(loss_mask[:, ::-1], axis=1)


def generalised_advantages(
    rewards: np.ndarray, values: np.ndarray, loss_mask: np.ndarray, discount: float, gae_lambda: float
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and returns (N, T) from token rewards and values (N, T), zero outside the completions.

    `values[i, t]` is expected before target t is said. Behind a completion's last token nothing is expected: a
    completion that was cut has ended, too.
    """
    advantages = np.zeros(rewards.shape)
    carried = np.zeros(len(rewards))
    following = np.zeros(len(rewards))  # the value of what comes after
    for t in range(rewards.shape[1] - 1, -1, -1):
        counts = loss_mask[:, t]
        surprise = rewards[:, t] + discount * following - values[:, t]
        carried = np.where(counts, surprise + discount * gae_lambda * carried, 0.0)
        following = np.where(counts, values[:, t], 0.0)
        advantages[:, t] = carried
    return advantages, np.where(loss_mask, advantages + values, 0.0)


def whitened(values: np.ndarray, loss_mask: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the counted places; zero elsewhere, and everywhere where they are all
    equal.
    """
    counted = values[loss_mask]
    found = np.zeros(values.shape)
    if len(counted) > 1 and counted.max() > counted.min():
        found[loss_mask] = (counted - counted.mean()) / (counted.std() + 1e-8)
    return found


def group_advantages(rewards: np.ndarray, group_size: int, divide_by_std: bool) -> tuple[np.ndarray, int]:
    """Advantages (N,) of completions against their groups' means, and how many groups had equal rewards.

    Rows that follow each other, `group_size` at a time, belong to one prompt. Equal rewards give advantages of
    exactly 0. Not dividing by the group's standard deviation leaves easy and hard prompts as they are weighted
    (Liu et al. 2025, "Dr. GRPO", section 3.2).
    """
    groups = rewards.reshape(-1, group_size)  # (P, G)
    equal = groups.max(1) == groups.min(1)
    apart = np.where(equal[:, None], 0.0, groups - groups.mean(1, keepdims=True))
    if divide_by_std:
        apart = apart / (groups.std(1, ddof=1, keepdims=True) + GROUP_EPS)
    return apart.reshape(-1), int(equal.sum())


class RunningMoments:
    """Mean and deviation of every reward so far (Welford 1962), so that the rewards of each phase are measured
    with one scale. Part of a checkpoint.
    """

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Take in more values."""
        n, mean = len(values), float(values.mean())
        apart, total = mean - self.mean, self.n + n
        self.squares += float(((values - mean) ** 2).sum()) + apart**2 * self.n * n / total
        self.mean += apart * n / total
        self.n = total

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """`values` less the mean, in standard deviations; in units of 1 while all were equal."""
        deviation = (self.squares / self.n) ** 0.5 if self.n else 0.0
        return (values - self.mean) / (deviation if deviation > 1e-8 else 1.0)
