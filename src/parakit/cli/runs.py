"""`parakit runs`: list training runs, compare them, plot their curves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, refuse_inert
from parakit.cli.rendering.safe_text import plain
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.common.settings import Config, closest_match

MIN_NAME = 24  # characters of a run's name on a line
PIPED_WIDTH = 160  # characters of a line that goes to a file or another program
_RUNS_HELP = "Names as `parakit runs list` prints them, or folders: of a model, of a build, of checkpoints."
_FOLDER_HELP = "The folder whose runs are looked for."


class RunsListCommandConfig(Config):
    """List the runs below a folder: finished ones, interrupted ones, and those that are training now."""

    folder: tyro.conf.Positional[str] = Field(default=".", description=_FOLDER_HELP)
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON array."
    )


class RunsCompareCommandConfig(Config):
    """Compare runs: in which settings they differ, and which is better by how much."""

    runs: tyro.conf.Positional[tuple[str, ...]] = Field(description=_RUNS_HELP)
    folder: str = Field(default=".", description=_FOLDER_HELP)
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class RunsPlotCommandConfig(Config):
    """Plot curves of runs in the terminal, or with --output as an HTML page."""

    runs: tyro.conf.Positional[tuple[str, ...]] = Field(description=_RUNS_HELP)
    folder: str = Field(default=".", description=_FOLDER_HELP)
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METRIC ...")] = Field(
        default=(),
        description="For example step/loss, validation/loss, step/grad_norm. Default: the loss; of a page, all.",
    )
    axis: Literal["step", "tokens", "seconds"] = Field(default="step", description="The horizontal axis.")
    smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Weight of what came before in a moving average."
    )
    output: str | None = Field(default=None, description="An HTML file to write, instead of the terminal.")
    overwrite: bool = Field(default=False, description="Replace an existing file.")


def main(argv: list[str]) -> int:
    """Run `parakit runs list|compare|plot`; returns the exit status."""
    verbs: dict[str, tuple[Any, Callable[[Any], None]]] = {
        "list": (RunsListCommandConfig, _list),
        "compare": (RunsCompareCommandConfig, _compare),
        "plot": (RunsPlotCommandConfig, _plot),
    }
    if not argv or argv[0] in ("-h", "--help"):
        lines = [
            f"  {verb:8} {(config.__doc__ or '').splitlines()[0]}" for verb, (config, _) in verbs.items()
        ]
        print("\n".join(["usage: parakit runs {list,compare,plot} ...", "", *lines]))
        return 0
    verb, *rest = argv
    if verb not in verbs:
        close = closest_match(verb, verbs)
        raise UserError(
            f"parakit runs: unknown verb {verb!r}",
            f"did you mean {close!r}?" if close else f"verbs: {', '.join(verbs)}",
        )
    config, run = verbs[verb]
    run(parse_command(config, rest, f"parakit runs {verb}"))
    return 0


def _list(command: RunsListCommandConfig) -> None:
    from parakit.reports.training_runs.comparison import load_runs
    from parakit.reports.training_runs.page import HEADINGS, figure_rows

    runs = load_runs(Path(command.folder))
    if command.as_json:
        print(json.dumps([one.to_dict() for one in runs]))
    elif runs:
        _print_table(HEADINGS, figure_rows(runs))
    else:
        log(f"{command.folder}: no training runs below it")


def _compare(command: RunsCompareCommandConfig) -> None:
    from parakit.reports.training_runs.comparison import choose_runs, compare_runs
    from parakit.reports.training_runs.page import HEADINGS, figure_rows

    comparison = compare_runs(choose_runs(command.runs, Path(command.folder)))
    if command.as_json:
        print(json.dumps(comparison.to_dict()))
        return
    _print_table(HEADINGS, figure_rows(comparison.runs))
    names = [one.label for one in comparison.runs]
    if comparison.differences:
        rows = [(name, *(values[run] for run in names)) for name, values in comparison.differences]
        _print_table(("setting", *names), rows)
    else:
        print("the runs have the same settings")
    for line in comparison.verdicts():
        print(plain(line))


def _plot(command: RunsPlotCommandConfig) -> None:
    refuse_inert(command, (OVERWRITES,))
    from parakit.reports.training_runs.comparison import choose_runs
    from parakit.reports.training_runs.curves import AXES, metric_names, metric_title, points_of, smoothed
    from parakit.reports.training_runs.page import write_runs_page
    from parakit.reports.training_runs.terminal import COLORS, draw_curves

    runs = choose_runs(command.runs, Path(command.folder))
    known = dict.fromkeys(name for one in runs for name in metric_names(one.rows))
    for name in command.metrics:
        if name not in known:
            close = closest_match(name, known)
            raise UserError(
                f"{name}: none of the runs has this metric",
                f"did you mean {close!r}?" if close else f"they have {', '.join(known)}",
            )
    if command.output:
        path = Path(command.output)
        if path.exists() and not command.overwrite:
            raise UserError(f"{path}: exists already", "choose another name, or pass --overwrite")
        write_runs_page(runs, path, command.metrics, command.axis, command.smoothing)
        log(f"{path}: {len(runs)} runs")
        return
    console = Console()
    default = ["step/loss"] if "step/loss" in known else list(known)[:1]
    for name in command.metrics or default:
        curves = {
            one.label: smoothed(points_of(one.rows, name, command.axis), command.smoothing) for one in runs
        }
        console.print(Text(metric_title(name), style="bold"))
        for line in draw_curves(curves, AXES[command.axis], min(100, console.width)):
            text = Text()
            for cell in line:
                text.append(cell.character, "" if cell.curve is None else COLORS[cell.curve % len(COLORS)])
            console.print(text, soft_wrap=True)
        for number, run in enumerate(curves):
            console.print(Text(f"  ━━ {plain(run)}", COLORS[number % len(COLORS)]))


def _print_table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for number, cell in enumerate(heading):
        widest = max((len(row[number]) for row in rows), default=0)
        least = min(widest, MIN_NAME) if not number else None
        table.add_column(Text(plain(cell)), no_wrap=number > 0, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=PIPED_WIDTH)).print(table)
