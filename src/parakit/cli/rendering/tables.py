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
