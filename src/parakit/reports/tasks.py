"""The task's part of the report: what the tuned model was measured on, its figures, what it confused, what it said.

`summary["task"]` is what the evaluation stage found: `task`, `split`, `n`, `figures` (rows with `name`, `value`, `low`
and `high` where there is an interval, `unit`: "share" of 1, "points" of 100 or "number", and a `note`), `labels`
and `confusion` (rows are right, columns are said) where there are classes, and `samples`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.reports.charts import SuiteBar, SuiteRow
from parakit.reports.formatting import Summary, is_number, number, percent, words

TITLES = {
    "classify": "How well it classifies",
    "tag": "How well it tags",
    "regress": "How well it scores",
    "translate": "How well it translates",
    "embed": "How well it embeds",
}
NAMES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "exact": "exactly right",
    "f1": "F1",
    "f1_macro": "F1, mean of the labels",
    "matthews": "Matthews' correlation",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's correlation",
    "accuracy_at_1": "found first",
}
MAX_CONFUSED = 24  # labels of a table that a page can hold


def task_section(summary: Summary) -> dict[str, Any] | None:
    """Everything that the page shows of the task; None where there is none."""
    found = summary.get("task") or {}
    figures = [row for row in found.get("figures") or [] if is_number(row.get("value"))]
    if not figures:
        return None
    samples = found.get("samples") or []
    split = {"test": "held out for the test", "validation": "held out for validation"}
    return {
        "title": TITLES.get(found.get("task", ""), "How well it does its task"),
        "note": f"Measured on {number(found.get('n'))} examples {split.get(found.get('split', ''), 'held out')}: "
        "training never saw them.",
        "bars": [_bar(row) for row in figures if row.get("unit") == "share" and is_number(row.get("low"))],
        "rows": [(figure_name(row), figure(row), interval(row), str(row.get("note", ""))) for row in figures],
        "confusion": _confusion(found),
        "samples": samples,
        "some_wrong": any(sample.get("correct") is False for sample in samples),
    }


def main_figure(summary: Summary) -> Mapping[str, Any] | None:
    """The one figure that tells most: the first."""
    rows = (summary.get("task") or {}).get("figures") or []
    return next((row for row in rows if is_number(row.get("value"))), None)


def figure_name(row: Mapping[str, Any]) -> str:
    """What a reader calls a figure."""
    return NAMES.get(str(row["name"]), words(str(row["name"])))


def figure(row: Mapping[str, Any], key: str = "value") -> str:
    """A figure in its unit."""
    value = row.get(key)
    if row.get("unit") == "share":
        return percent(value)
    return f"{value:.1f}" if row.get("unit") == "points" and is_number(value) else number(value)


def interval(row: Mapping[str, Any]) -> str:
    """The 95 % interval, empty where none was made."""
    if not (is_number(row.get("low")) and is_number(row.get("high"))):
        return ""
    return f"{figure(row, 'low')} – {figure(row, 'high')}"


def _bar(row: Mapping[str, Any]) -> SuiteRow:
    value, low, high = (round(100 * min(max(row[key], 0.0), 1.0), 2) for key in ("value", "low", "high"))
    chance = row.get("chance")
    text = f"{figure(row)}, 95 % between {figure(row, 'low')} and {figure(row, 'high')}"
    return SuiteRow(
        figure_name(row),
        [SuiteBar("tuned", value, low, high, text)],
        round(100 * chance, 2) if is_number(chance) else None,
    )


def _confusion(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of right labels against said ones; the cells that are right are marked by their place."""
    labels, counts = found.get("labels") or [], found.get("confusion") or []
    if not counts or len(labels) > MAX_CONFUSED or any(len(row) != len(labels) for row in counts):
        return None
    return {"labels": [str(label) for label in labels], "rows": list(zip(labels, counts, strict=True))}
