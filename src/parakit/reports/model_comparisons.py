"""Compares the models of a build: each figure and the samples with the published model that it began with, and the change of
accuracy by suite with the model that each was trained from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.common.files import JsonObject
from parakit.common.formatting import number, percent, points
from parakit.reports.formatting import ROLES, humanize, model_stages, samples_of, suite_means
from parakit.reports.summary_parts import Difference, FigureComparison, TextEvaluation
from parakit.reports.summary_schema import BuildSummary, TrainingSummary

START = "start"
MAX_PROMPTS = 12
SIGNIFICANT = 0.01  # McNemar's p below which a suite counts as changed, in a summary without verdicts


@dataclass(frozen=True)
class FigureBar:
    """One model's figure, as text; `share` of the row's largest in per cent; `better` than the start's, None: the same, or
    a difference within the noise of the evaluation set.
    """

    role: str
    value: str
    difference: str
    share: float
    better: bool | None


@dataclass(frozen=True)
class FigureRow:
    """A figure with a bar for each model."""

    name: str
    unit: str
    bars: list[FigureBar]


@dataclass(frozen=True)
class PromptRow:
    """A prompt, and what each model wrote: its name and the completion."""

    prompt: str
    completions: list[tuple[str, str]]


def compare_with_start(measured: Mapping[str, Any]) -> list[JsonObject]:
    """From what the evaluation measured: each figure that the start and another model have."""
    figures: list[tuple[str, str, bool, dict[str, float]]] = []
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for text in dict.fromkeys(row["name"] for row in measured["evaluations"]):
        rows = {row["model"]: row for row in measured["evaluations"] if row["name"] == text}
        in_bytes = all(row["bits_per_byte"] is not None for row in rows.values())
        key, unit = (
            ("bits_per_byte", "bits per byte") if in_bytes else ("loss_nats_per_token", "nats per token")
        )
        figures.append((text, unit, True, {model: row[key] for model, row in rows.items()}))
        changes = {model: row["change"] for model, row in rows.items() if row.get("change")}
        intervals[text] = {m: _interval(c) for m, c in changes.items() if c["unit"] == unit}
    for suite, results in measured["suites"].items():
        values = {model: result["accuracy"] for model, result in results.items()}
        figures.append((humanize(suite), "share", False, values))
        changes = measured.get("suites_against_start", {}).get(suite, {})
        intervals[humanize(suite)] = {model: _interval(change) for model, change in changes.items()}
    for name, results in measured.get("benchmarks", {}).items():
        one = next(iter(results.values()))
        share = all(result["low"] >= 0 and result["high"] <= 1 for result in results.values())
        values = {model: result["value"] for model, result in results.items()}
        title = f"{name}: {one['metric']}"
        figures.append((title, "share" if share else "number", not one["higher_is_better"], values))
        changes = measured.get("benchmarks_against_start", {}).get(name, {})
        intervals[title] = {model: _interval(change) for model, change in changes.items()}
    if measured["suite_mean"]:
        figures.append(("mean of the suites", "share", False, dict(measured["suite_mean"])))
    before, after = (
        {row["name"]: row for row in (measured.get(key) or {}).get("figures", ())}
        for key in ("task_of_start", "task")
    )
    for name in [name for name in before if name in after]:
        values = {START: before[name]["value"], "tuned": after[name]["value"]}
        figures.append((name, before[name]["unit"], False, values))
    return [
        {
            "name": name,
            "unit": unit,
            "lower_is_better": lower,
            "values": values,
            "differences": {
                model: value - values[START] for model, value in values.items() if model != START
            },
            "intervals": intervals.get(name, {}),
        }
        for name, unit, lower, values in figures
        if START in values and None not in values.values() and len(values) > 1
    ]


def _interval(change: Mapping[str, float]) -> tuple[float, float]:
    return change["low"], change["high"]


def figure_rows(comparisons: Sequence[FigureComparison]) -> list[FigureRow]:
    """The comparison as rows of bars."""
    return [FigureRow(one.name, _unit(one.unit), _bars(one)) for one in comparisons]


def sample_rows(summary: BuildSummary) -> list[PromptRow]:
    """What the start and the models of the stages wrote after the same prompts; empty without a start."""
    stages = model_stages(summary)
    if START not in stages:
        return []
    written: dict[str, list[tuple[str, str]]] = {}
    for role, stage in stages.items():
        for sample in samples_of(summary, stage):
            written.setdefault(sample.prompt, []).append((ROLES.get(role, humanize(role)), sample.completion))
    shared = [PromptRow(prompt, texts) for prompt, texts in written.items() if len(texts) > 1]
    return shared[:MAX_PROMPTS]


def _bars(one: FigureComparison) -> list[FigureBar]:
    largest = max(abs(value) for value in one.values.values()) or 1.0
    bars = []
    for model, value in one.values.items():
        difference = one.differences.get(model)
        better = None if not difference else (difference < 0) == one.lower_is_better
        change = "" if difference is None else _signed(difference, one.unit)
        low, high = one.intervals.get(model, (difference, difference))
        if difference and low is not None and high is not None and low <= 0 <= high:
            better, change = None, f"{change}, within noise"
        bars.append(FigureBar(model, _value(value, one.unit), change, 100 * abs(value) / largest, better))
    return bars


def _unit(unit: str) -> str:
    return "" if unit in ("share", "number", "points") else unit


def _value(value: float, unit: str) -> str:
    return percent(value) if unit == "share" else number(value, 4)


def _signed(difference: float, unit: str) -> str:
    return f"{100 * difference:+.1f} points" if unit == "share" else f"{difference:+.3f}"


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
