"""What a reward is: a callable that gives each completion a finite number, or stops the run with a `RewardError`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Protocol, SupportsFloat

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
    """(N,) float64. `RewardError` where the reward fails, returns another count of numbers, or what is no finite number."""
    returned = reward(samples)
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes):
        raise RewardError(
            f"the reward {reward.name!r} returned {_kind_of(returned)} for {len(samples)} completions",
            "a reward returns a list of numbers, one for each completion",
        )
    rewards = list(returned)
    if len(rewards) != len(samples):
        raise RewardError(
            f"the reward {reward.name!r} returned {len(rewards)} numbers for {len(samples)} completions",
            "a reward returns one number for each completion",
        )
    numbers = [to_number(reward.name, value, sample) for value, sample in zip(rewards, samples, strict=True)]
    return np.array(numbers, dtype=np.float64)


def to_number(name: str, value: object, sample: SampledCompletion) -> float:
    """What a reward returned, as a finite float; `RewardError` naming what it is instead. A string is no number, whatever
    it says; an array or tensor of one element is.
    """
    if isinstance(value, SupportsFloat) and not isinstance(value, str | bytes):
        try:
            number = float(value)
        except (
            TypeError,
            ValueError,
            OverflowError,
            RuntimeError,
        ):  # several elements, or no float is as large
            number = None
        if number is not None and math.isfinite(number):
            return number
    if inspect.iscoroutine(value):
        value.close()  # or Python warns that nobody awaited it
    raise RewardError(
        f"the reward {name!r} returned {_kind_of(value)} instead of a finite number; {sample.describe()}",
        "return a number on every path of it, and run the same command again: it resumes from the last checkpoint",
    )


def _kind_of(value: object) -> str:
    """A value in words: itself where it is short, else its type."""
    if inspect.isawaitable(value):
        return "a coroutine (it is async, and nothing awaits it)"
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return "a generator (it yields where it should return)"
    if isinstance(value, int) and value.bit_length() > 64:  # Python prints none of over 4,300 digits
        return f"an int of {value.bit_length():,} bits"
    if isinstance(value, str | bytes) and len(value) > 60:
        return f"a {type(value).__name__} of {len(value):,} characters"
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    return f"a {type(value).__name__}"
