"""What a sweep will do, and what came out of it, at the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from parakit.cli.rendering.safe_text import safe
from parakit.common.files import JsonObject
from parakit.common.progress import log

if TYPE_CHECKING:
    from parakit.recipe.sweeps.plan import Sweep
    from parakit.recipe.sweeps.running import RunOutcome
    from parakit.reports.sweeps.figures import SweepResults


def plan_rows(sweep: Sweep) -> JsonObject:
    """The plan as plain data: of each run its recipe with every default, and what is done about each stage."""
    return {
        "name": sweep.name,
        "runs": [
            {
                **{"name": run.name, "seed": run.seed, "values": dict(run.values)},
                "folder": str(sweep.build_folder(run.name)),
                "recipe": run.recipe.model_dump(mode="json"),
                "stages": [
                    {"stage": one.stage.name, "run": one.run, "reason": one.reason}
                    for one in sweep.decisions(run.name)
                ],
            }
            for run in sweep.runs
        ],
    }


def plan_lines(sweep: Sweep) -> str:
    """The plan as text: of each run what is made, and what is taken from where."""
    lines = []
    n_made = 0
    for run in sweep.runs:
        lines.append(f"{run.name}  ({sweep.build_folder(run.name)})")
        by_reason: dict[tuple[bool, str], list[str]] = {}
        for one in sweep.decisions(run.name):
            by_reason.setdefault((one.run, one.reason), []).append(one.stage.name)
            n_made += one.run
        for (made, reason), stages in by_reason.items():
            lines.append(f"  {'run ' if made else 'skip'}  {', '.join(stages)}: {reason}")
    n_stages = sum(len(stages) for stages in sweep.stages.values())
    lines.append(f"{len(sweep.runs)} runs, {n_stages} stages, of which {n_made} are run")
    return "\n".join(lines)


def report_sweep(sweep: Sweep, outcomes: Sequence[RunOutcome], as_json: bool) -> int:
    """Write the report and print the main figures; 1 where a run failed."""
    from parakit.recipe.sweeps.results import report

    failures = {one.run: one.message for one in outcomes if one.status == "failed"}
    results, page = report(sweep, failures)
    if as_json:
        print(json.dumps(results.to_dict(), ensure_ascii=False))
    else:
        show_results(results, Console(stderr=True))
    log(f"report: {page}")
    for run, message in failures.items():
        log(f"failed: {run}: {message}")
    if failures:
        log(f"{len(failures)} of {len(outcomes)} runs failed; the same command tries them again")
    return 1 if failures else 0


def show_results(results: SweepResults, console: Console) -> None:
    """The main figures of a sweep as tables."""
    from parakit.reports.sweeps.tables import headline_tables, note

    for heading, rows in headline_tables(results):
        table = Table(box=None, pad_edge=False, title=safe(results.name), title_justify="left")
        for number, cell in enumerate(heading):
            table.add_column(safe(cell), justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*map(safe, row))
        console.print(table)
    console.print(safe(note(results)), highlight=False)


def sweep_rows(results: JsonObject) -> list[JsonObject]:
    """The means of a sweep's results.json as rows: the values, the figure, its mean, its interval and the number of runs."""
    rows = []
    for one in results["figures"]:
        interval = "" if one["interval"] is None else "{:.4g} to {:.4g}".format(*one["interval"])
        row = {key: str(one["values"][key]) for key in results["varied"]}
        row |= {"figure": one["figure"], "model": one["model"], "unit": one["unit"]}
        rows.append(row | {"mean": one["mean"], "95 % interval": interval, "seeds": one["n"]})
    return rows
