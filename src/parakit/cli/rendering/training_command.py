"""What training commands have in common: flags of a run, and how they report the change from the model before."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parakit.cli.rendering.conditions import Needs
from parakit.common.errors import UserError
from parakit.common.processes import first_alone
from parakit.common.progress import log
from parakit.common.settings import Config
from parakit.reports.before_after import general_effect, shorten
from parakit.reports.summary_schema import TrainingSummary

SHOWN_CHARS = 160


class RunFlags(Config):
    """Flags of a command that trains."""

    resume: bool = Field(
        default=False,
        description="Continue an interrupted run of this output with the settings of this command: what changed is named,"
        " and you are asked. Without it, only the same settings continue a run.",
    )
    yes: bool = Field(default=False, description="With --resume: do not ask.")
    find_rate: bool = Field(
        default=False,
        description="Train for a few steps while the learning rate grows, draw the loss to OUTPUT.rates.svg, propose a rate,"
        " and stop.",
    )


RUN_FLAG_RULES = (
    Needs(("yes",), lambda command: command.resume, "nothing is asked", "add --resume"),
    Needs(
        ("resume",),
        lambda command: not command.find_rate,
        "--find-rate starts from the beginning",
        "remove --find-rate",
    ),
)


def confirm_resume(command: RunFlags) -> Callable[[Sequence[str]], bool] | None:
    """What asks before a run goes on with other settings; None without --resume."""
    if not command.resume:
        return None

    def confirm(lines: Sequence[str]) -> bool:
        for number, line in enumerate(lines):
            log(f"  - {line}" if number else line)
        if command.yes:
            return True
        if not sys.stdin.isatty():
            raise UserError(
                "--resume asks before it continues, and there is no terminal to ask at", "add --yes"
            )
        print("continue with the new settings? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return confirm


def find_rate_of(job: Any, output: str, as_json: bool) -> int:
    """Run the learning-rate range test of a job; the exit status."""
    from parakit.stages.planning.rate_finder import find_rate

    picture = Path(f"{output}.rates.svg")
    found = first_alone("rates", lambda: find_rate(job, picture).to_dict())
    if as_json:
        print(json.dumps(found))
    return 0


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
