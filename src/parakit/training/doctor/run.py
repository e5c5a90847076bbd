"""Run the checks of a task before the first step.

A check that runs the model uses a small probe. Randomness is seeded, and everything that is changed is restored bit for
bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parakit.common.errors import UserError
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
) -> list[CheckResult]:
    """Run every check of a task. Weights, gradients and random state stay as they are. The model must not be compiled.

    `source` may be None where the model has another head than the task's, which is the first check.
    `frozen` tells from a parameter's name whether the stage keeps it fixed; None: everything trains. A failed check that
    is blocking ends the list.
    """
    return run_in(CheckContext(model, tokenizer, source, shards, plan, objective, spec, frozen or _trains))


def run_in(context: Any) -> list[CheckResult]:
    """Run the checks that `context.checked_as` selects, in a context that the caller made."""
    checks = checks_for(context.checked_as)
    results: list[CheckResult] = []
    if not _run([check for check in checks if not check.runs_model], context, results):
        return results
    on_model = [check for check in checks if check.runs_model]
    if on_model:
        with probing(context.model):
            _run(on_model, context, results)
    return results


def check_replay(source: ReplaySource[Any], n_rows: int) -> list[CheckResult]:
    """Check the first rows of a mixture; `n_rows` is the number of a step."""
    return run_in(ReplayContext(source, n_rows))


def raise_first_failure(results: list[CheckResult]) -> None:
    """Raise `DoctorError` for the first check that failed."""
    for result in results:
        if not result.passed:
            raise DoctorError(result)


def _run(checks: list[Check], context: Any, results: list[CheckResult]) -> bool:
    """Append the results; False where a blocking check failed."""
    for check in checks:
        results.append(check.run(context))
        if check.blocking and not results[-1].passed:
            return False
    return True


def _trains(name: str) -> bool:
    return False
