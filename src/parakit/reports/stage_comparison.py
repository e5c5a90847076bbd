"""Compares each model of a build with the model it was trained from: the change of accuracy by suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parakit.common.formatting import percent, points
from parakit.reports.formatting import ROLES, humanize, model_stages, suite_means
from parakit.reports.summary_parts import Difference, TextEvaluation
from parakit.reports.summary_schema import BuildSummary, TrainingSummary

SIGNIFICANT = 0.01  # McNemar's p below which a suite counts as changed, in a summary without verdicts


@dataclass(frozen=True)
class StageDelta:
    """One model against its parent, as text."""

    model: str
    parent: str
    before: str
    after: str
    difference: str
    interval: str
    gained: str
    lost: str


def stage_deltas(summary: BuildSummary) -> list[StageDelta]:
    """The change of every stage that made a model; empty where no two models were compared."""
    means = suite_means(summary)
    return [
        StageDelta(
            model=ROLES.get(role, humanize(role)),
            parent=ROLES.get(comparison.parent, humanize(comparison.parent)),
            before=percent(means.get(comparison.parent)),
            after=percent(means.get(role)),
            difference=points(comparison.all.difference),
            interval=f"{points(comparison.all.low)} to {points(comparison.all.high)}",
            gained=_changed({**comparison.suites, **comparison.benchmarks}, "better"),
            lost=_changed({**comparison.suites, **comparison.benchmarks}, "worse"),
        )
        for role, comparison in summary.against_parent.items()
    ]


def loss_change(entry: TextEvaluation) -> str:
    """A text's loss against the model before, and whether that is above the noise of the text; empty without one."""
    if entry.change is None:
        return ""
    change = entry.change
    above = change.low > 0 or change.high < 0
    return (
        f"{change.difference:+.4f} ({change.low:+.4f} to {change.high:+.4f}), "
        f"{'above' if above else 'within'} noise"
    )


def trained_stages(summary: BuildSummary) -> list[str]:
    """Every stage that trained a model or recorded metrics, in the order in which they ran."""
    made = set(model_stages(summary).values()) - {"start", "quantize"}
    return [
        name
        for name, figures in summary.stages.items()
        if name in made or (isinstance(figures, TrainingSummary) and figures.metrics)
    ]


def _changed(scores: Mapping[str, Difference], verdict: str) -> str:
    """The scores that became better (or worse) by more than chance, with by how much."""
    return ", ".join(
        f"{humanize(name)} {points(one.difference) if one.unit == 'share' else f'{one.difference:+.3g}'}"
        for name, one in scores.items()
        if _verdict(one) == verdict
    )


def _verdict(change: Difference) -> str:
    if change.verdict is not None:
        return change.verdict
    if change.p_value >= SIGNIFICANT:
        return "cannot tell"
    return "better" if change.difference > 0 else "worse"
