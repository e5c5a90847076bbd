"""How training commands report the change from the model before: a sentence, and answers side by side."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parakit.common.progress import log
from parakit.reports.before_after import general_effect, shorten
from parakit.reports.summary_schema import TrainingSummary

SHOWN_CHARS = 160


def against_before(figures: Mapping[str, Any], name: str = "loss") -> str:
    """What a trained model's figure `name` was before the run, and how much it has forgotten of the replayed data."""
    if (before := figures.get("before")) is None:
        return ""
    text = f" ({before[name]:.3f} before)"
    if "forgetting" in figures:
        now, then = figures["earlier_loss"], before["earlier_loss"]
        text += f"; earlier data: loss {now:.3f} ({then:.3f} before), forgetting {figures['forgetting']:+.3f} nats"
    return text


def show_before_after(figures: Mapping[str, Any]) -> None:
    """Print the answers before and after as a table, the change on the general text, and what was not measured."""
    if (compared := figures.get("before_after")) is None:
        return
    summary = TrainingSummary.model_validate({"before_after": compared})
    assert summary.before_after is not None
    if summary.before_after.answers:
        table = Table("held-out prompt", "before", "after", title_justify="left", show_lines=True)
        for pair in summary.before_after.answers:
            cells = (pair.prompt, pair.before, pair.after)
            table.add_row(*(Text(shorten(cell, SHOWN_CHARS) or "(nothing)") for cell in cells))
        Console(stderr=True).print(table)
    if general := general_effect(summary):
        log(general)
    for reason in summary.before_after.skipped:
        log(f"not measured: {reason}")
