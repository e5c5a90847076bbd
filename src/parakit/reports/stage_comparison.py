"""Compares each model of a build with the model it was trained from: the change of accuracy by suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parakit.common.formatting import percent, points
from parakit.reports.formatting import ROLES, humanize, model_stages, suite_means
from parakit.reports.summary_parts import Difference, TextEvaluation
from parakit.reports.summary_schema import BuildSummary, TrainingSummary

SIGNIFICANT = 0.01  # McNemar's p below which a suite counts as changed


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
            gained=_changed(comparison.suites, 1),
            lost=_changed(comparison.suites, -1),
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


def _changed(suites: Mapping[str, Difference], sign: int) -> str:
    """The suites that became better (or worse) by more than chance, with by how much."""
    significant = [
        (name, change.difference)
        for name, change in suites.items()
        if change.difference * sign > 0 and change.p_value < SIGNIFICANT
    ]
    return ", ".join(f"{humanize(name)} {points(difference)}" for name, difference in significant)
