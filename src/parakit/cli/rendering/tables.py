"""Tables that more than one verb prints."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.reports.tasks import figure, figure_name, interval


def show_task(task: dict[str, Any] | None, console: Console) -> None:
    """The figures of a task on its held-out examples; nothing where there are none."""
    if not task:
        return
    measured = f"{task['task']}: {task['n']:,} examples, {task['split']}"
    console.print(escape(measured), highlight=False)
    table = Table("figure", "value", "95 % interval")
    for row in task["figures"]:
        table.add_row(figure_name(row), figure(row), interval(row))
    console.print(table)
    for row in task["figures"]:
        if row.get("note"):
            console.print(escape(f"{figure_name(row)}: {row['note']}"), highlight=False, soft_wrap=True)


def show_preferences(found: dict[str, Any], console: Console) -> None:
    """The figures of a reward model on preferences."""
    table = Table("judge", "finds the better answer", "95 % interval")
    interval = f"{found['low']:.1%} to {found['high']:.1%}"
    table.add_row("this model", f"{found['accuracy']:.1%}", interval)
    longer = "longer" if found["longer_is_better"] >= 0.5 else "shorter"
    table.add_row(f"the {longer} answer", f"{found['length_judge']:.1%}", "")
    table.add_row("guessing", f"{found['chance']:.1%}", "")
    console.print(table)
    for name, value in (
        ("pairs", f"{found['pairs']:,} of {found['rankings']:,} rankings"),
        ("calibration error", f"{found['calibration_error']:.1%}"),
        ("right where the better answer is longer", _share(found["accuracy_where_longer"])),
        ("right where it is shorter", _share(found["accuracy_where_shorter"])),
        ("rank correlation of reward and length", f"{found['length_correlation']:+.2f}"),
    ):
        console.print(f"{name}: {value}", highlight=False)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
