"""Rewards by name: rules that check a completion, a user's function, unit tests, or a reward model.

A reward that raises or returns no finite number stops the run and names the prompt and the completion: a silent zero
would train the wrong behaviour. A user's function is imported from the Python path, only when it is named. Unit tests
run what the model wrote in the sandbox (`unit_test_reward.py`).
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.alignment.rl.model_reward import ModelReward
from parakit.alignment.rl.prompts import SampledCompletion
from parakit.alignment.rl.reward import Reward, RewardError, to_number
from parakit.alignment.rl.tool_tasks import ToolTaskReward
from parakit.alignment.rl.unit_test_reward import UnitTestReward
from parakit.common.errors import UserError
from parakit.primer.grading import final_number, normalise


class FunctionReward:
    """A function of one sample, which returns a number. `needs_answer`: it compares with the prompt's reference answer."""

    def __init__(
        self, name: str, function: Callable[[SampledCompletion], object], needs_answer: bool = False
    ) -> None:
        self.name, self.function, self.needs_answer = name, function, needs_answer

    def __call__(self, samples: Sequence[SampledCompletion]) -> list[float]:
        return [self._score(sample) for sample in samples]

    def _score(self, sample: SampledCompletion) -> float:
        if self.needs_answer and sample.answer is None:
            raise RewardError(
                f"the reward {self.name!r} needs a reference answer, but there is none: {sample.describe()}",
                "end each conversation with the assistant's right answer",
            )
        try:
            value = self.function(sample)
        except Exception as error:  # a user's function may raise anything
            raise RewardError(
                f"the reward {self.name!r} raised {type(error).__name__}: {error}; {sample.describe()}",
                "correct it and run the same command again: it resumes from the last checkpoint",
            ) from error
        return to_number(self.name, value, sample)


def exact_answer(sample: SampledCompletion) -> float:
    """1 where the completion equals the answer, ignoring case, spaces, quotation marks and the last full stop."""
    return float(normalise(sample.completion) == normalise(sample.answer or ""))


def final_answer(sample: SampledCompletion) -> float:
    """1 where the completion's last integer is the answer's."""
    number, expected = final_number(sample.completion), final_number(sample.answer or "")
    return float(number is not None and number == expected)


def contains_answer(sample: SampledCompletion) -> float:
    """1 where the answer occurs in the completion as whole words."""
    words = re.escape(normalise(sample.answer or ""))
    return float(re.search(rf"(?<!\w){words}(?!\w)", normalise(sample.completion)) is not None)


def _format_reward(pattern: str) -> FunctionReward:
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise UserError(
            f"format={pattern}: not a regular expression: {error}", "use the syntax of Python's re"
        ) from None
    return FunctionReward(
        f"format={pattern}", lambda sample: float(compiled.fullmatch(sample.completion.strip()) is not None)
    )


def _length_reward(words: str) -> FunctionReward:
    if not words.isdecimal() or int(words) == 0:
        raise UserError(f"length={words}: not a number of words", "for example length=12")
    target = int(words)

    def relative_error(sample: SampledCompletion) -> float:
        return -abs(len(sample.completion.split()) - target) / target

    return FunctionReward(f"length={words}", relative_error)


def _python_reward(path: str) -> FunctionReward:
    """A function of (messages, completion, answer); messages are dicts of role and content."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise UserError(f"python={path}: names no function", "write python=module:function")
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"python={path}: cannot be imported: {error}", "put the module on PYTHONPATH, or correct the name"
        ) from None
    except Exception as error:  # the module's own code may raise anything
        raise UserError(
            f"python={path}: importing {module} raised {type(error).__name__}: {error}", "correct the module"
        ) from error
    wanted = "name a function of (messages, completion, answer) that returns a number"
    if not callable(function):
        raise UserError(f"python={path}: not a function", wanted)
    if fault := _no_reward(function):
        raise UserError(f"python={path}: {fault}", wanted)

    def call(sample: SampledCompletion) -> object:
        messages = [message.to_row() for message in sample.messages]
        return function(messages, sample.completion, sample.answer)

    return FunctionReward(f"python={path}", call)


def _no_reward(function: Callable[..., object]) -> str | None:
    """Why a function cannot be a reward, as far as that shows before it is called."""
    if inspect.isclass(function):
        return "is a class"
    called = (function, type(function).__call__)  # an instance may be called too
    if any(map(inspect.iscoroutinefunction, called)):
        return "is async, and nothing would await it: its result is a coroutine and no number"
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in called):
        return "yields, so its result is a generator and no number"
    try:
        inspect.signature(function).bind([], "", "")
    except TypeError as error:
        return f"cannot be called with (messages, completion, answer): {error}"
    except ValueError:  # a built-in without a signature
        return None
    return None


ANSWER_REWARDS: Mapping[str, Callable[[SampledCompletion], float]] = {
    "exact_answer": exact_answer,
    "final_answer": final_answer,
    "contains_answer": contains_answer,
}
PARAMETRIC_REWARDS: Mapping[str, Callable[[str], FunctionReward]] = {
    "format": _format_reward,
    "length": _length_reward,
    "python": _python_reward,
}


def parse_reward(text: str, device: str = "cpu") -> Reward:
    """The reward that `text` names: exact_answer, final_answer, contains_answer, `format=REGEX`, `length=WORDS`,
    `python=module:function`, `unit_tests`, `unit_tests=share`, `tool_tasks`, or a reward model's folder.
    """
    name, equals, argument = text.partition("=")
    if text == ToolTaskReward.name:
        return ToolTaskReward()
    if name == "unit_tests":
        return UnitTestReward(text)
    if text in ANSWER_REWARDS:
        return FunctionReward(text, ANSWER_REWARDS[text], needs_answer=True)
    if equals and name in PARAMETRIC_REWARDS:
        return PARAMETRIC_REWARDS[name](argument)
    if os.path.isdir(text):
        return ModelReward(Path(text), device)
    known = [
        *ANSWER_REWARDS,
        "unit_tests",
        ToolTaskReward.name,
        *(f"{name}=..." for name in PARAMETRIC_REWARDS),
    ]
    raise UserError(
        f"reward {text!r}: neither a folder nor a built-in reward", f"built-in rewards: {', '.join(known)}"
    )
