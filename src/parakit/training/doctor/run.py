"""Run the checks of a task before the first step.

A check that runs the model uses a small probe. Randomness is seeded, and everything that is changed is restored bit for
bit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.model.heads import TransformerModel
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.preferences.encoding import EncodedRankings
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor.checks.replay import ReplayContext  # the package registers all checks
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.probes import probing
from parakit.training.doctor.registry import Check, CheckResult, checks_for
from parakit.training.micro_batches import Objective
from parakit.training.row_sources import RowSource
from parakit.training.tasks import TaskSpec

LOG_SECONDS = 5.0  # between two lines of progress


class DoctorError(UserError):
    """A run that would go wrong without an error. `name` is the check's."""

    def __init__(self, result: CheckResult) -> None:
        self.name = result.name
        super().__init__(f"doctor: {result.name}: {result.detail}", result.remedy)


def run_checks(
    model: TransformerModel,
    tokenizer: Tokenizer,
    source: RowSource | None,
    shards: TokenShards | ExampleShards | EncodedRankings,
    plan: TrainingPlan,
    objective: Objective,
    spec: TaskSpec,
    *,
    frozen: Callable[[str], bool] | None = None,
    seconds: float | None = None,
) -> list[CheckResult]:
    """Run every check of a task. Weights, gradients and random state stay as they are. The model must not be compiled.

    `source` may be None where the model has another head than the task's, which is the first check.
    `frozen` tells from a parameter's name whether the stage keeps it fixed; None: everything trains. A failed check that
    is blocking ends the list. Checks that do not fit into `seconds` (None: no limit) are marked as skipped.
    """
    context = CheckContext(model, tokenizer, source, shards, plan, objective, spec, frozen or _trains)
    return run_in(context, seconds)


def run_in(context: Any, seconds: float | None = None) -> list[CheckResult]:
    """Run the checks that `context.checked_as` selects, in a context that the caller made: the cheapest first. The
    results are in the order of declaration.
    """
    checks = checks_for(context.checked_as)
    timer = Timer(seconds, len(checks))
    results: dict[str, CheckResult] = {}
    on_data, on_probe, on_whole_rows = (
        [
            check
            for check in checks
            if phase == (check.runs_model, bool(check.passes) and not check.runs_model)
        ]
        for phase in ((False, False), (True, False), (False, True))
    )
    if _run(on_data, context, results, timer):
        with probing(context.model) if on_probe else contextlib.nullcontext():
            _run(on_probe, context, results, timer)
        _run(on_whole_rows, context, results, timer)
    return [results[check.name] for check in checks if check.name in results]


class Timer:
    """The time that checks take, and whether the next one still fits. `seconds` None: everything fits."""

    def __init__(self, seconds: float | None, n_checks: int) -> None:
        self.seconds, self.n_checks, self.n_run = seconds, n_checks, 0
        self.started = self.shown_at = time.monotonic()
        self.pass_seconds, self.n_passes = 0.0, 0.0

    def fits(self, check: Check) -> bool:
        """Whether `check` will end in time, judged by the mean pass until now."""
        spent = time.monotonic() - self.started
        expected = check.passes * self.pass_seconds / max(1.0, self.n_passes)
        return self.seconds is None or not check.passes or spent + expected <= self.seconds

    def count(self, check: Check, seconds: float) -> None:
        """Learn from a check that took `seconds`; log where the checks are if that takes long."""
        self.n_run += 1
        if check.passes:
            self.pass_seconds += seconds
            self.n_passes += check.passes
        if time.monotonic() - self.shown_at >= LOG_SECONDS:
            self.shown_at = time.monotonic()
            log(f"doctor: {self.n_run} of {self.n_checks} checks, {self.shown_at - self.started:.0f}s")


def check_replay(source: ReplaySource[Any], n_rows: int) -> list[CheckResult]:
    """Check the first rows of a mixture; `n_rows` is the number of a step."""
    return run_in(ReplayContext(source, n_rows))


def raise_first_failure(results: list[CheckResult]) -> None:
    """Raise `DoctorError` for the first check that failed and is no warning."""
    for result in results:
        if result.stops:
            raise DoctorError(result)


def _run(checks: list[Check], context: Any, results: dict[str, CheckResult], timer: Timer) -> bool:
    """Add the results by name; False where a blocking check failed. Blocking checks come first, then the cheapest."""
    for check in sorted(checks, key=lambda one: not one.blocking and one.passes):
        if not timer.fits(check):
            results[check.name] = check.skip()
            continue
        started = time.monotonic()
        results[check.name] = result = check.run(context)
        timer.count(check, time.monotonic() - started)
        if check.blocking and result.stops:
            return False
    return True


def _trains(name: str) -> bool:
    return False
