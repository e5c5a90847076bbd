"""Unit tests as a reward: the completion is a program, and its prompt's tests run on it in the sandbox, isolated from the
system and from the result.

1 where all pass; with `unit_tests=share` the share that passes. A program that does not run or exceeds its limits scores
0 and is counted. Broken tests stop the run: they would train nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence

from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion
from parakit.alignment.rl.reward import RewardError
from parakit.common.errors import UserError
from parakit.sandbox.fenced_code import code_of
from parakit.sandbox.grading import run_tests_of_many
from parakit.sandbox.pool import available_isolation
from parakit.sandbox.unit_tests import UnitTests, parse_tests


class UnitTestReward:
    """`name` is `unit_tests` or `unit_tests=share`. `metrics`: of the completions scored last, the share that passed every
    test and the share that timed out. `UserError` where this machine has no sandbox.
    """

    def __init__(self, name: str) -> None:
        choice = name.removeprefix("unit_tests")
        if choice not in ("", "=share"):
            raise UserError(
                f"{name}: not a unit test reward", "use unit_tests (all must pass) or unit_tests=share"
            )
        available_isolation()
        self.name, self.by_share = name, bool(choice)
        self.metrics: dict[str, float] = {}

    def check_prompts(self, prompts: Iterable[RLPrompt]) -> None:
        """`RewardError` for the first prompt without tests or with invalid ones."""
        for prompt in prompts:
            self._tests(SampledCompletion(prompt.messages, prompt.answer, "", tests=prompt.tests))

    def __call__(self, samples: Sequence[SampledCompletion]) -> list[float]:
        """One number for each sample; `RewardError` where the tests are broken."""
        results = run_tests_of_many([(code_of(sample.completion), self._tests(sample)) for sample in samples])
        for sample, result in zip(samples, results, strict=True):
            if result.outcome == "broken":
                raise RewardError(
                    f"the tests are broken: {result.reason}; {sample.describe()}",
                    "correct them in the file",
                )
        n = max(len(results), 1)
        self.metrics = {
            f"tests_{outcome}": sum(result.outcome == outcome for result in results) / n
            for outcome in ("passed", "timed_out")
        }
        return [v.fraction_passed if self.by_share else float(v.outcome == "passed") for v in results]

    def _tests(self, sample: SampledCompletion) -> UnitTests:
        if sample.tests is None:
            raise RewardError(
                f"the reward {self.name!r} needs tests, but there are none: {sample.describe()}",
                'give each row of the prompts "tests"; see docs/online-alignment.md',
            )
        try:
            return _parse_tests(sample.tests)
        except UserError as error:
            raise RewardError(f"{error.message}; {sample.describe()}", error.hint) from None


@functools.lru_cache(4096)
def _parse_tests(tests: str) -> UnitTests:
    return parse_tests(json.loads(tests), "tests")
