"""What a reward is: a callable that gives each completion a finite number, or stops the run with a `RewardError`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion
from parakit.common.errors import UserError


class Reward(Protocol):
    """Scores completions; `name` is the string that `parse_reward` reads. A reward may also have
    `check_prompts(prompts)` and a dict `metrics` of the completions that it scored last.
    """

    name: str

    def __call__(self, samples: Sequence[SampledCompletion]) -> Sequence[float]:
        """One number for each sample."""
        ...


class RewardError(UserError):
    """A reward that failed, or that is not a finite number."""


def check_prompts(reward: Reward, prompts: Iterable[RLPrompt]) -> None:
    """`UserError` where a prompt lacks what the reward needs; called before training."""
    check = getattr(reward, "check_prompts", None)
    if check is not None:
        check(prompts)


def reward_metrics(reward: Reward) -> dict[str, float]:
    """A reward's own metrics of the completions that it scored last."""
    return dict(getattr(reward, "metrics", {}))


def compute_rewards(reward: Reward, samples: Sequence[SampledCompletion]) -> np.ndarray:
    """(N,) float64. `RewardError` where the reward fails, returns another count of numbers, NaN or infinity."""
    rewards = list(reward(samples))
    if len(rewards) != len(samples):
        raise RewardError(
            f"the reward {reward.name!r} returned {len(rewards)} numbers for {len(samples)} completions",
            "a reward returns one number for each completion",
        )
    for value, sample in zip(rewards, samples, strict=True):
        if not math.isfinite(value):
            raise RewardError(
                f"the reward {reward.name!r} is {value}; {sample.describe()}",
                "correct it and run the same command again: it resumes from the last checkpoint",
            )
    return np.array(rewards, dtype=np.float64)
