"""The page of a comparison: verdicts, a picture of the differences with their intervals, and the items that changed.

As self-contained as a build's report: no network, no script, and every text passes through the template's autoescape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.common.files import JsonObject, write_text_atomic
from parakit.common.formatting import number, percent, points
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.comparison.outcome import (
    ChangedItem,
    ModelComparison,
    ScoreComparison,
    overall_verdict,
)
from parakit.reports import charts
from parakit.reports.formatting import humanize
from parakit.reports.rendering import page_template

MAX_ITEMS = 12
"""Items of each benchmark and direction that are shown, spread evenly over those that changed."""
MAX_TEXT = 1500
SMALLEST_P = 0.0001
_STYLES = {"better": "better", "worse": "worse", "cannot tell": "unclear", None: "plain"}


@dataclass(frozen=True)
class Interval:
    """A row of the picture, in per cent of its width."""

    name: str
    style: str
    low: float
    value: float
    high: float
    text: str


@dataclass(frozen=True)
class Forest:
    """Differences of one unit on one axis: `zero` and the ticks in per cent of the width."""

    title: str
    rows: list[Interval]
    ticks: list[tuple[float, str]]
    zero: float


def write_comparison_page(
    comparisons: Sequence[ModelComparison], config: CompareConfig, path: str | Path
) -> Path:
    """Write the page of all `comparisons`, with one reference, to `path`, whole or not at all."""
    write_text_atomic(Path(path), render_comparison_page(comparisons, config))
    return Path(path)


def render_comparison_page(comparisons: Sequence[ModelComparison], config: CompareConfig) -> str:
    """The page as HTML text."""
    page = {
        "reference": comparisons[0].reference,
        "verdict": overall_verdict([one.verdict for one in comparisons]),
        "models": [_model(one, config) for one in comparisons],
        "n_tests": sum(row.verdict is not None for one in comparisons for row in one.scores),
        "level": f"{100 * config.level:g} %",
        "power": f"{100 * config.power:g} %",
    }
    return page_template("comparison.html").render(page)


def score_name(row: ScoreComparison) -> str:
    """What was compared; the metric where it is not the main one."""
    if row.kind == "all":
        return "all 0/1 items"
    name = humanize(row.name) if row.kind == "suite" else row.name
    return name if row.verdict is not None else f"{name}, {humanize(row.metric)}"


def value_text(row: ScoreComparison, value: float) -> str:
    """A score in its unit."""
    return percent(value) if row.unit == "share" else f"{value:.4f}"


def difference_text(row: ScoreComparison) -> str:
    """The difference with its interval: of shares in points."""
    if row.unit == "share":
        return f"{points(row.difference)} ({points(row.low)} to {points(row.high)})"
    return f"{row.difference:+.4f} ({row.low:+.4f} to {row.high:+.4f})"


def p_text(p_value: float | None) -> str:
    """A corrected p value; empty where there is none."""
    if p_value is None:
        return ""
    return f"{p_value:.2g}" if p_value >= SMALLEST_P else f"< {SMALLEST_P}"


def needed_text(row: ScoreComparison, config: CompareConfig) -> str:
    """The smallest difference that so many items detect, and how many one of `detect` would need; empty for a verdict."""
    if row.verdict != "cannot tell" or row.detectable is None:
        return ""
    unit = "blocks" if row.kind == "loss" else "items"
    smallest = f"{100 * row.detectable:.1f} points" if row.unit == "share" else number(row.detectable)
    line = f"{row.n:,} {unit} detect {smallest}"
    if row.n_needed is not None:
        line += f"; {100 * config.detect:g} points need {row.n_needed:,}"
    return line


def _model(one: ModelComparison, config: CompareConfig) -> JsonObject:
    """What the template shows of one model."""
    return {
        "name": one.model,
        "verdict": one.verdict,
        "style": _STYLES[one.verdict],
        "counts": [
            (verdict, sum(row.verdict == verdict for row in one.scores))
            for verdict in ("better", "worse", "cannot tell")
        ],
        "rows": [_row(row, config) for row in one.scores],
        "forests": _forests(one.scores),
        "groups": [(score_name(row), _groups(row)) for row in one.scores if row.groups],
        "changed": _changed(one.changed),
        "n_changed": len(one.changed),
        "only": [
            (where, names)
            for where, names in (
                (one.reference, one.only_in_reference),
                (one.model, one.only_in_model),
            )
            if names
        ],
        "not_compared": ", ".join(one.not_compared),
        "allowed": [
            (score_name(row), humanize(key), str(both[0]), str(both[1]))
            for row in one.scores
            if row.verdict is not None
            for key, both in row.allowed.items()
        ],
    }


def _row(row: ScoreComparison, config: CompareConfig) -> JsonObject:
    changed = "" if row.n_better is None else f"{row.n_better:,} / {row.n_worse:,}"
    dropped = f"{row.n_left_out:,} items that only one has are left out" if row.n_left_out else ""
    return {
        "name": score_name(row),
        "note": "" if row.higher_is_better else "lower is better",
        "first": value_text(row, row.first),
        "second": value_text(row, row.second),
        "difference": difference_text(row),
        "n": f"{row.n:,}",
        "changed": changed,
        "p": p_text(row.corrected_p_value),
        "verdict": row.verdict or "",
        "style": _STYLES[row.verdict],
        "needed": "; ".join(filter(None, (needed_text(row, config), dropped))),
    }


def _forests(rows: Sequence[ScoreComparison]) -> list[Forest]:
    """One picture for each unit of the main scores."""
    units = dict.fromkeys(row.unit for row in rows if row.verdict is not None)
    return [_forest(unit, [row for row in rows if row.verdict and row.unit == unit]) for unit in units]


def _forest(unit: str, rows: Sequence[ScoreComparison]) -> Forest:
    scale = 100.0 if unit == "share" else 1.0
    marks = charts.ticks(
        min(0.0, *(row.low * scale for row in rows)), max(0.0, *(row.high * scale for row in rows))
    )
    low, high = marks[0], marks[-1]

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    placed = [
        Interval(
            score_name(row),
            _STYLES[row.verdict],
            place(row.low * scale),
            place(row.difference * scale),
            place(row.high * scale),
            difference_text(row),
        )
        for row in rows
    ]
    titles = {"share": "Difference in points", "": "Difference of other scores"}
    labels = [(place(mark), f"{mark:+g}" if mark else "0") for mark in marks]
    return Forest(titles.get(unit, f"Difference in {unit}, lower is better"), placed, labels, place(0.0))


def _groups(row: ScoreComparison) -> list[JsonObject]:
    """The groups, those that fell most first."""
    sign = 1 if row.higher_is_better else -1
    ordered = sorted(row.groups.items(), key=lambda one: sign * (one[1].second - one[1].first))
    return [
        {
            "name": humanize(name),
            "first": value_text(row, group.first),
            "second": value_text(row, group.second),
            "difference": points(group.second - group.first)
            if row.unit == "share"
            else f"{group.second - group.first:+.4f}",
            "n": f"{group.n:,}",
            "changed": f"{group.n_better:,} / {group.n_worse:,}",
        }
        for name, group in ordered
    ]


def _changed(items: Sequence[ChangedItem]) -> list[JsonObject]:
    """By benchmark: some of the items that became worse, and of those that became better."""
    found = []
    for name in dict.fromkeys(item.name for item in items):
        for better in (False, True):
            own = [item for item in items if item.name == name and item.better == better]
            if own:
                step = math.ceil(len(own) / MAX_ITEMS)
                title = f"{humanize(name)}: {'better' if better else 'worse'}"
                found.append({"title": title, "n": len(own), "items": [_shown(one) for one in own[::step]]})
    return found


def _shown(item: ChangedItem) -> JsonObject:
    return {
        "id": item.item if item.item != item.prompt else "",
        "group": humanize(item.group or ""),
        "prompt": _cut(item.prompt),
        "target": _cut(item.target),
        "first": _cut(item.first),
        "second": _cut(item.second),
        "scores": f"{item.first_score:.3g} and {item.second_score:.3g}",
        "binary": {item.first_score, item.second_score} == {0.0, 1.0},
        "first_right": item.first_score == 1.0,
        "better": item.better,
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."
