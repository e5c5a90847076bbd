"""The examination before the first step: every check in its order, the findings, and the error that stops a
run.

A check that needs the model tries it out on a small probe; what is random is seeded, and what is changed is
put back to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.model.heads import LanguageModel, Model
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor.case import Case, Check, Kind
from parakit.training.doctor.checks import BATCH_CHECKS, LABEL_CHECKS, MODEL_CHECKS
from parakit.training.doctor.probes import tried_out
from parakit.training.doctor.tasks.lists import BEHAVIOUR_CHECKS, ROW_CHECKS
from parakit.training.micro_batches import Objective
from parakit.training.row_sources import RowSource

# Faults with which nothing else can be looked at.
STOPPING = (
    "head-differs",
    "ids-outside-vocabulary",
    "rows-too-long",
    "labels-differ",
    "label-out-of-range",
    "all-masked",
    "source-empty",
    "texts-empty",
)


@dataclass(frozen=True)
class Finding:
    """What one check saw. `detail` says what is wrong, `hint` the way out; both are empty where it passed."""

    name: str
    title: str
    passed: bool
    detail: str = ""
    hint: str = ""
    pitfall: int = 0


class DoctorError(UserError):
    """A run that would fail in silence. `name` is the check's, and stays the same between versions."""

    def __init__(self, finding: Finding) -> None:
        self.name = finding.name
        super().__init__(f"doctor: {finding.name}: {finding.detail}", finding.hint)


def examine(
    model: Model,
    tokenizer: Tokenizer,
    source: RowSource,
    shards: TokenShards | ExampleShards,
    plan: TrainingPlan,
    objective: Objective,
    kind: Kind,
    *,
    frozen: Callable[[str], bool] | None = None,
) -> list[Finding]:
    """Run every check; weights, gradients and random state are left as they were. Run it before the model is
    compiled.

    `frozen` says of a parameter's name whether the stage means to keep it as it is; None: everything trains.
    Where labels or batches are at fault in a way that a model cannot be run on, the checks of the model are
    left out.
    """
    case = Case(model, tokenizer, source, shards, plan, objective, kind, frozen or (lambda name: False))
    decodes = kind in ("pretrain", "chat") or (kind == "prefix" and isinstance(model, LanguageModel))
    of_rows: Sequence[Sequence[Check]] = (LABEL_CHECKS, BATCH_CHECKS) if decodes else (ROW_CHECKS,)
    findings: list[Finding] = []
    for checks in of_rows:
        for finding in _look(case, checks):
            findings.append(finding)
            if finding.name in STOPPING and not finding.passed:
                return findings
    with tried_out(model):
        return findings + list(_look(case, MODEL_CHECKS if decodes else BEHAVIOUR_CHECKS))


def require_healthy(findings: list[Finding]) -> None:
    """Raise `DoctorError` for the first finding that did not pass."""
    for finding in findings:
        if not finding.passed:
            raise DoctorError(finding)


def _look(case: Case, checks: Sequence[Check]) -> Iterator[Finding]:
    for check in checks:
        if not check.only or case.kind in check.only:
            fault = check.look(case)
            hint = check.hint if fault else ""
            yield Finding(check.name, check.title, not fault, fault or "", hint, check.pitfall)
