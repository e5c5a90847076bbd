"""Compares every model of a build with the published model that it began with: each figure, and the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.common.files import JsonObject
from parakit.common.formatting import number, percent
from parakit.reports.formatting import ROLES, humanize, model_stages, samples_of
from parakit.reports.summary_parts import FigureComparison
from parakit.reports.summary_schema import BuildSummary

START = "start"
MAX_PROMPTS = 12


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
