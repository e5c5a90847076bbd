"""The figures of a sweep, read from its runs' folders, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parakit.recipe.build_state import RUNS
from parakit.recipe.sweeps.grid import label
from parakit.recipe.sweeps.plan import Sweep, SweepRun
from parakit.reports.formatting import final_stage
from parakit.reports.summary import read_summary
from parakit.reports.sweeps.figures import RunResult, SweepResults, run_figures
from parakit.reports.sweeps.page import write_sweep_report


def sweep_results(sweep: Sweep, failures: Mapping[str, str] | None = None) -> SweepResults:
    """All figures of the runs that are built. `failures`: the message of each run that failed."""
    settings = sweep.settings
    numbers = {label(values): number for number, values in enumerate(settings)}
    return SweepResults(
        sweep.name,
        list(sweep.varied),
        settings,
        list(numbers),
        sweep.seeds,
        [_result(sweep, run, numbers[label(run.values)], failures or {}) for run in sweep.runs],
    )


def report(sweep: Sweep, failures: Mapping[str, str] | None = None) -> tuple[SweepResults, Path]:
    """Write the report and the tables of a sweep; its figures, and the page."""
    results = sweep_results(sweep, failures)
    return results, write_sweep_report(results, sweep.place, RUNS)


def _result(sweep: Sweep, run: SweepRun, setting: int, failures: Mapping[str, str]) -> RunResult:
    folder = sweep.build_folder(run.name)
    if run.name in failures:
        return RunResult(run.name, setting, run.seed, "failed", failures[run.name])
    if not (folder / "summary.json").is_file():
        return RunResult(run.name, setting, run.seed, "not built")
    summary = read_summary(folder / "summary.json")
    figures, first, chance = run_figures(summary)
    final = summary.training(final_stage(summary))
    return RunResult(
        run.name,
        setting,
        run.seed,
        "done",
        seconds=summary.seconds,
        parameters=final.parameters if final else None,
        figures=figures,
        headlines=first,
        chance=chance,
    )
