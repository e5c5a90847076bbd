"""Tables of results that several commands print."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.common.files import JsonObject
from parakit.common.formatting import percent
from parakit.reports.summary_parts import TaskSummary
from parakit.reports.tasks import interval, metric_name, metric_value


def show_task(task: TaskSummary | None, console: Console) -> None:
    """Print the metrics of a task on its held-out examples; nothing where there are none."""
    if not task:
        return
    console.print(escape(f"{task.task}: {task.n:,} examples, {task.split}"), highlight=False)
    table = Table("metric", "value", "95 % interval")
    for metric in task.figures:
        table.add_row(metric_name(metric), metric_value(metric), interval(metric))
    console.print(table)
    for metric in task.figures:
        if metric.note:
            console.print(escape(f"{metric_name(metric)}: {metric.note}"), highlight=False, soft_wrap=True)


def show_preferences(found: JsonObject, console: Console) -> None:
    """The figures of a reward model on preferences."""
    table = Table("ranking by", "accuracy", "95 % interval")
    interval = f"{found['low']:.1%} to {found['high']:.1%}"
    table.add_row("this model", f"{found['accuracy']:.1%}", interval)
    longer = "longer" if found["longer_is_better"] >= 0.5 else "shorter"
    table.add_row(f"the {longer} answer", f"{found['length_baseline']:.1%}", "")
    table.add_row("guessing", f"{found['chance']:.1%}", "")
    console.print(table)
    for name, value in (
        ("pairs", f"{found['pairs']:,} of {found['rankings']:,} rankings"),
        ("calibration error", f"{found['calibration_error']:.1%}"),
        ("accuracy where the better answer is longer", percent(found["accuracy_where_longer"], space="")),
        ("accuracy where it is shorter", percent(found["accuracy_where_shorter"], space="")),
        ("rank correlation of reward and length", f"{found['length_correlation']:+.2f}"),
    ):
        console.print(f"{name}: {value}", highlight=False)
