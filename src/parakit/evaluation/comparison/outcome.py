"""What a comparison takes and gives: a model's scores, one difference a score, the items that changed, and a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from parakit.common.files import JsonObject
from parakit.evaluation.results import BenchmarkResult

ScoreKind = Literal["benchmark", "suite", "loss", "all"]
Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class ModelScores:
    """All scores of one model: results with their items by name, and the fields of a `LossResult` by text."""

    name: str
    benchmarks: Mapping[str, BenchmarkResult] = field(default_factory=dict)
    suites: Mapping[str, BenchmarkResult] = field(default_factory=dict)
    loss: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupDifference:
    """A group of a benchmark's items (a subject, a phenomenon), without a verdict of its own."""

    first: float
    second: float
    n: int
    n_better: int
    n_worse: int


@dataclass(frozen=True)
class ScoreComparison:
    """A model's score minus the reference's on the same items, with its 95 % interval. A text's items are its blocks.

    `p_value` is that of the test alone and `corrected_p_value` that of all tests together; None of both the latter and
    `verdict` for a metric that is not its benchmark's main one.
    """

    kind: ScoreKind
    name: str
    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    n: int
    p_value: float
    higher_is_better: bool = True
    unit: str = ""
    """`share` of 0/1 scores, else empty or the unit of a loss."""
    n_better: int | None = None
    n_worse: int | None = None
    """Items on which the model is better, or worse, than the reference."""
    n_left_out: int = 0
    """Items that only one of the two has."""
    allowed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    corrected_p_value: float | None = None
    verdict: Verdict | None = None
    detectable: float | None = None
    """The smallest true difference that these items would tell."""
    n_needed: int | None = None
    """Items needed to tell a difference of `detect`."""
    groups: Mapping[str, GroupDifference] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """The difference, positive where the model is better."""
        return self.difference if self.higher_is_better else -self.difference


@dataclass(frozen=True)
class ChangedItem:
    """An item on which the two scores differ, with both answers."""

    name: str
    item: str
    group: str | None
    prompt: str
    target: str
    first: str
    second: str
    first_score: float
    second_score: float
    better: bool


@dataclass(frozen=True)
class ModelComparison:
    """One model against the reference. `verdict`: worse where any score is, else better where any is."""

    reference: str
    model: str
    verdict: Verdict
    scores: tuple[ScoreComparison, ...]
    changed: tuple[ChangedItem, ...] = field(repr=False)
    only_in_reference: tuple[str, ...] = ()
    only_in_model: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    """Benchmarks whose scores are of all items together, without one of each."""

    def score(self, kind: ScoreKind, name: str) -> ScoreComparison:
        """The main score of a benchmark, suite or text."""
        return next(one for one in self.scores if (one.kind, one.name) == (kind, name) and one.verdict)

    def without_items(self) -> JsonObject:
        """As plain data, without the items that changed."""
        found = dataclasses.asdict(dataclasses.replace(self, changed=()))
        del found["changed"]
        return found


def overall_verdict(verdicts: Sequence[Verdict | None]) -> Verdict:
    """Worse where any is, else better where any is, else cannot tell."""
    return next((one for one in ("worse", "better") if one in verdicts), "cannot tell")
