"""Unit tests as a reward: the completion is a program, and the tests that came with its prompt are put to it in the
sandbox (`parakit.sandbox`), where neither can do harm and the program cannot reach the verdict.

1 where all pass; with `unit_tests=share` the share that passes. A program that does not run, does not end or returns
something odd earns 0 for it, and is counted. Tests that are wrong themselves stop the run: they would teach nothing.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence

from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion
from parakit.alignment.rl.reward import RewardError
from parakit.common.errors import UserError
from parakit.sandbox.grading import run_tests_of_many
from parakit.sandbox.pool import available_isolation
from parakit.sandbox.unit_tests import UnitTests, parse_tests

_FENCED = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "python3", "py")


def code_of(completion: str) -> str:
    """The program in a completion: its blocks fenced as Python, one after the other; else its first block that is fenced
    without a language; else all of it. A block that was cut off ends with the completion.
    """
    blocks = [(found[1].lower(), found[2]) for found in _FENCED.finditer(completion)]
    named = [code for language, code in blocks if language in _PYTHON]
    if named:
        return "\n".join(named)
    return next((code for language, code in blocks if not language), completion)


class UnitTestReward:
    """`name` is `unit_tests` or `unit_tests=share`. `figures` tell of the completions judged last: the share that passed
    every test, and the share that ran out of time. `UserError` where this machine has no sandbox.
    """

    def __init__(self, name: str) -> None:
        choice = name.removeprefix("unit_tests")
        if choice not in ("", "=share"):
            raise UserError(f"{name}: no way to count tests", "unit_tests (all of them) or unit_tests=share")
        available_isolation()
        self.name, self.by_share = name, bool(choice)
        self.figures: dict[str, float] = {}

    def check_prompts(self, prompts: Iterable[RLPrompt]) -> None:
        """`RewardError` for the first prompt without tests, or with tests that cannot be meant."""
        for prompt in prompts:
            self._tests(SampledCompletion(prompt.messages, prompt.answer, "", tests=prompt.tests))

    def __call__(self, samples: Sequence[SampledCompletion]) -> list[float]:
        """One number for each sample; `RewardError` where the tests themselves are broken."""
        verdicts = run_tests_of_many(
            [(code_of(sample.completion), self._tests(sample)) for sample in samples]
        )
        for sample, verdict in zip(samples, verdicts, strict=True):
            if verdict.outcome == "broken":
                raise RewardError(
                    f"the tests are wrong themselves: {verdict.reason}; {sample.describe()}",
                    "correct them in the file",
                )
        n = max(len(verdicts), 1)
        self.figures = {
            f"tests_{outcome}": sum(verdict.outcome == outcome for verdict in verdicts) / n
            for outcome in ("passed", "timed_out")
        }
        return [v.fraction_passed if self.by_share else float(v.outcome == "passed") for v in verdicts]

    def _tests(self, sample: SampledCompletion) -> UnitTests:
        if sample.tests is None:
            raise RewardError(
                f"the reward {self.name!r} needs tests, and there are none: {sample.describe()}",
                'give each row of the prompts "tests"; see docs/online-alignment.md',
            )
        try:
            return _parsed(sample.tests)
        except UserError as error:
            raise RewardError(f"{error.message}; {sample.describe()}", error.hint) from None


@functools.lru_cache(4096)
def _parsed(tests: str) -> UnitTests:
    return parse_tests(json.loads(tests), "tests")
