"""Rewards: a number for each completion, from a rule that can be checked, a function of the user's, or a model.

A reward that raises or gives no finite number stops the run and names the prompt, the completion and itself: a
silent zero would teach the wrong thing. Functions are imported from where the user's Python finds them, and only
when the user names one; nothing is downloaded. Unit tests run what the model wrote, in a sandbox or not at all
(`tested_code.py`).
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion
from parakit.common.errors import UserError
from parakit.primer.grading import final_number, normalise


class Reward(Protocol):
    """Judges completions; `name` is how a person asked for it."""

    name: str

    def __call__(self, samples: Sequence[SampledCompletion]) -> Sequence[float]:
        """One number for each sample."""
        ...


class RewardError(UserError):
    """A reward that failed, or that is no number."""


class FunctionReward:
    """A reward that looks at one sample at a time. `needs_answer`: it compares with the prompt's own answer."""

    def __init__(
        self, name: str, judge: Callable[[SampledCompletion], float], needs_answer: bool = False
    ) -> None:
        self.name, self.judge, self.needs_answer = name, judge, needs_answer

    def __call__(self, samples: Sequence[SampledCompletion]) -> list[float]:
        return [self._one(sample) for sample in samples]

    def _one(self, sample: SampledCompletion) -> float:
        if self.needs_answer and sample.answer is None:
            raise RewardError(
                f"the reward {self.name!r} needs the right answer, and there is none: {sample.describe()}",
                "end each conversation with the assistant's right answer",
            )
        try:
            return float(self.judge(sample))
        except Exception as error:  # whatever a user's function raises, the run must say where
            raise RewardError(
                f"the reward {self.name!r} raised {type(error).__name__}: {error}; {sample.describe()}",
                "put it right and begin the same command again: it goes on from its last checkpoint",
            ) from error


def exact_answer(sample: SampledCompletion) -> float:
    """1 where the completion is the answer, but for case, spaces, quotation marks and the last full stop."""
    return float(normalise(sample.completion) == normalise(sample.answer or ""))


def final_answer(sample: SampledCompletion) -> float:
    """1 where the completion's last whole number is the answer's."""
    said, right = final_number(sample.completion), final_number(sample.answer or "")
    return float(said is not None and said == right)


def contains_answer(sample: SampledCompletion) -> float:
    """1 where the answer occurs in the completion as whole words."""
    words = re.escape(normalise(sample.answer or ""))
    return float(re.search(rf"(?<!\w){words}(?!\w)", normalise(sample.completion)) is not None)


def _format(pattern: str) -> FunctionReward:
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise UserError(
            f"format={pattern}: no regular expression: {error}", "write it as Python's re"
        ) from None
    return FunctionReward(
        f"format={pattern}", lambda sample: float(compiled.fullmatch(sample.completion.strip()) is not None)
    )


def _length(words: str) -> FunctionReward:
    if not words.isdecimal() or int(words) == 0:
        raise UserError(f"length={words}: not a number of words", "for example length=12")
    wanted = int(words)

    def judge(sample: SampledCompletion) -> float:
        return -abs(len(sample.completion.split()) - wanted) / wanted

    return FunctionReward(f"length={words}", judge)


def _function(path: str) -> FunctionReward:
    """A function of (messages, completion, answer), messages as mappings of role and content."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise UserError(f"python={path}: names no function", "write python=module:function")
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"python={path}: cannot be imported: {error}", "put the module on PYTHONPATH, or correct the name"
        ) from None
    if not callable(function):
        raise UserError(f"python={path}: is no function", "name a function of (messages, completion, answer)")

    def judge(sample: SampledCompletion) -> float:
        messages = [{"role": m.role, "content": m.content} for m in sample.messages]
        return float(function(messages, sample.completion, sample.answer))

    return FunctionReward(f"python={path}", judge)


RULES: Mapping[str, Callable[[SampledCompletion], float]] = {
    "exact_answer": exact_answer,
    "final_answer": final_answer,
    "contains_answer": contains_answer,
}
MAKERS: Mapping[str, Callable[[str], FunctionReward]] = {
    "format": _format,
    "length": _length,
    "python": _function,
}


def parse_reward(text: str, device: str = "cpu") -> Reward:
    """The reward that `text` names: a rule, `format=REGEX`, `length=WORDS`, `python=module:function`, `unit_tests`, or
    the folder of a reward model.
    """
    name, equals, argument = text.partition("=")
    if name == "unit_tests":
        from parakit.alignment.rl.unit_test_reward import UnitTestReward

        return UnitTestReward(text)
    if text in RULES:
        return FunctionReward(text, RULES[text], needs_answer=True)
    if equals and name in MAKERS:
        return MAKERS[name](argument)
    if Path(text).is_dir():
        from parakit.alignment.rl.model_reward import ModelReward

        return ModelReward(Path(text), device)
    known = [*RULES, "unit_tests", *(f"{name}=..." for name in MAKERS)]
    raise UserError(
        f"reward {text!r}: neither a folder nor a built-in reward", f"built in are {', '.join(known)}"
    )


def check_prompts(reward: Reward, prompts: Iterable[RLPrompt]) -> None:
    """`UserError` where a prompt lacks what the reward needs, found before anything is learned."""
    check = getattr(reward, "check_prompts", None)
    if check is not None:
        check(prompts)


def reward_metrics(reward: Reward) -> dict[str, float]:
    """What a reward has to tell of the completions it judged last, beside its numbers."""
    return dict(getattr(reward, "figures", {}))


def compute_rewards(reward: Reward, samples: Sequence[SampledCompletion]) -> np.ndarray:
    """(N,) float64. `RewardError` where the reward fails, gives another number of numbers, NaN or infinity."""
    found = list(reward(samples))
    if len(found) != len(samples):
        raise RewardError(
            f"the reward {reward.name!r} gave {len(found)} numbers for {len(samples)} completions",
            "a reward gives one number for each completion",
        )
    for value, sample in zip(found, samples, strict=True):
        if not math.isfinite(value):
            raise RewardError(
                f"the reward {reward.name!r} is {value}; {sample.describe()}",
                "put it right and begin the same command again: it goes on from its last checkpoint",
            )
    return np.array(found, dtype=np.float64)
