"""Write the report of a sweep: an HTML page, tables in three forms, pictures, and all figures as JSON."""

from __future__ import annotations

from pathlib import Path

from parakit.common.files import write_json_atomic, write_text_atomic
from parakit.common.formatting import compact
from parakit.reports.point_plot import draw_points, geometry
from parakit.reports.rendering import page_template
from parakit.reports.sweeps.figures import SweepResults
from parakit.reports.sweeps.pictures import pictures
from parakit.reports.sweeps.tables import (
    comma_separated,
    full_tables,
    headline_tables,
    latex,
    markdown,
    note,
)

PAGE, RESULTS = "report.html", "results.json"
TABLES = ("table.md", "table.tex", "table.csv")


def write_sweep_report(results: SweepResults, folder: Path, runs: str) -> Path:
    """Write everything to `folder`; the page links to the reports of the runs in the folder `runs` next to it. Pictures of
    figures that are no longer there are removed. Returns the page.
    """
    drawn = pictures(results) if any(run.figures for run in results.runs) else {}
    write_json_atomic(folder / RESULTS, results.to_dict())
    for name, write in zip(TABLES, (markdown, latex, comma_separated), strict=True):
        write_text_atomic(folder / name, write(results))
    for old in folder.glob("*.svg"):
        if old.name not in drawn:
            old.unlink()
    for name, plot in drawn.items():
        write_text_atomic(folder / name, draw_points(plot))
    page = page_template("sweep.html").render(
        results=results,
        note=note(results),
        sentence=_sentence(results),
        pictures=list(map(geometry, drawn.values())),
        headline=headline_tables(results),
        full=full_tables(results),
        tables=TABLES,
        runs=runs,
        parameters=[compact(run.parameters) if run.parameters else "" for run in results.runs],
    )
    write_text_atomic(folder / PAGE, page)
    return folder / PAGE


def _sentence(results: SweepResults) -> str:
    done = sum(run.status == "done" for run in results.runs)
    varied = " and ".join(key.rpartition(".")[2].replace("_", " ") for key in results.varied)
    over = (
        f"{len(results.settings)} values of {varied}"
        if len(results.varied) == 1
        else f"{len(results.settings)} settings of {varied}"
    )
    what = f"{over}, " if varied else ""
    n = len(results.seeds)
    return f"{what}{n} seed{'s' if n > 1 else ''}: {done} of {len(results.runs)} runs are done."
