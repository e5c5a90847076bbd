"""The report's section on a task: metrics, confusion matrix and examples of the fine-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parakit.common.formatting import number, percent
from parakit.reports.charts import SuiteBar, SuiteRow
from parakit.reports.formatting import humanize
from parakit.reports.summary_parts import TaskMetric, TaskSample, TaskSummary
from parakit.reports.summary_schema import BuildSummary

TITLES = {
    "classify": "Classification",
    "multi_label": "Classification with several labels",
    "tag": "Tagging",
    "regress": "Regression",
    "answer": "Question answering",
    "translate": "Translation",
    "embed": "Embeddings",
}
NAMES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "rouge_lsum": "ROUGE-Lsum",
    "exact": "exactly right",
    "f1": "F1",
    "f1_macro": "F1, mean of the labels",
    "f1_micro": "F1 of all labels together",
    "f1_tokens": "F1 of the answer's words",
    "matthews": "Matthews' correlation",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's correlation",
    "accuracy_at_1": "found first",
}
MAX_CONFUSED = 24  # labels of a table that a page can hold


@dataclass(frozen=True)
class Confusion:
    """The table of expected labels (rows) against predicted ones (columns)."""

    labels: tuple[str, ...]
    rows: list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class TaskSection:
    """What the page shows of a task; `rows` are name, value, interval and note."""

    title: str
    note: str
    bars: list[SuiteRow]
    rows: list[tuple[str, str, str, str]]
    confusion: Confusion | None
    samples: Sequence[TaskSample]
    some_wrong: bool


def task_section(summary: BuildSummary) -> TaskSection | None:
    """The section; None where no task was measured."""
    task = summary.task
    metrics = [metric for metric in task.figures if metric.value is not None] if task else []
    if task is None or not metrics:
        return None
    split = {"test": "held out for the test", "validation": "held out for validation"}
    return TaskSection(
        title=TITLES.get(task.task, "Task metrics"),
        note=f"Measured on {number(task.n)} examples {split.get(task.split, 'held out')}: "
        "training never saw them.",
        bars=[_bar(metric) for metric in metrics if metric.unit == "share" and metric.low is not None],
        rows=[
            (metric_name(metric), metric_value(metric), interval(metric), metric.note) for metric in metrics
        ],
        confusion=_confusion(task),
        samples=task.samples,
        some_wrong=any(sample.correct is False for sample in task.samples),
    )


def main_metric(summary: BuildSummary) -> TaskMetric | None:
    """The task's first metric, which tells most."""
    metrics = summary.task.figures if summary.task else ()
    return next((metric for metric in metrics if metric.value is not None), None)


def metric_name(metric: TaskMetric) -> str:
    """The metric's usual name."""
    return NAMES.get(metric.name, humanize(metric.name))


def metric_value(metric: TaskMetric) -> str:
    """The metric's value in its unit."""
    return _in_unit(metric, metric.value)


def interval(metric: TaskMetric) -> str:
    """The 95 % interval, empty where there is none."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{_in_unit(metric, metric.low)} – {_in_unit(metric, metric.high)}"


def _in_unit(metric: TaskMetric, value: float | None) -> str:
    if metric.unit == "share":
        return percent(value)
    return f"{value:.1f}" if metric.unit == "points" and value is not None else number(value)


def _bar(metric: TaskMetric) -> SuiteRow:
    share, low, high = (
        round(100 * min(max(bound or 0.0, 0.0), 1.0), 2) for bound in (metric.value, metric.low, metric.high)
    )
    text = f"{metric_value(metric)}, 95 % between {_in_unit(metric, metric.low)} and {_in_unit(metric, metric.high)}"
    return SuiteRow(
        metric_name(metric),
        [SuiteBar("tuned", share, low, high, text)],
        None if metric.chance is None else round(100 * metric.chance, 2),
    )


def _confusion(task: TaskSummary) -> Confusion | None:
    labels, counts = task.labels, task.confusion
    if not counts or len(labels) > MAX_CONFUSED or any(len(row) != len(labels) for row in counts):
        return None
    return Confusion(labels, list(zip(labels, counts, strict=True)))
