"""Runs as an HTML page: their curves, what each has reached, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parakit.common.files import write_text_atomic
from parakit.common.formatting import compact, long_duration
from parakit.reports.point_plot import PlottedPoint, PointPlot, Series, geometry
from parakit.reports.rendering import page_template
from parakit.reports.training_runs.comparison import LoadedRun, compare_runs
from parakit.reports.training_runs.curves import (
    AXES,
    Axis,
    metric_names,
    metric_title,
    points_of,
    smoothed,
    thinned,
)

MAX_PAGE_POINTS = 200
HEADINGS = ("run", "state", "step", "tokens", "time", "tokens/s", "validation", "lowest")


def write_runs_page(
    runs: Sequence[LoadedRun],
    path: Path,
    metrics: Sequence[str] = (),
    axis: Axis = "step",
    smoothing: float = 0.0,
) -> Path:
    """Write the page of `runs` to the file `path`: a picture for each of `metrics`, or for every metric that they have."""
    names = metrics or list(dict.fromkeys(name for one in runs for name in metric_names(one.rows)))
    plots = [_plot(runs, name, axis, smoothing) for name in names]
    comparison = compare_runs(runs) if len(runs) > 1 else None
    settings: list[tuple[str, ...]] = []
    if comparison:
        named = [one.label for one in comparison.runs]
        settings = [(name, *(values[run] for run in named)) for name, values in comparison.differences]
    page = page_template("runs.html").render(
        runs=[one.label for one in runs],
        pictures=[geometry(plot) for plot in plots if plot.series],
        heading=HEADINGS,
        rows=figure_rows(runs),
        settings=settings,
        verdicts=comparison.verdicts() if comparison else [],
    )
    write_text_atomic(path, page)
    return path


def figure_rows(runs: Sequence[LoadedRun]) -> list[tuple[str, ...]]:
    """What each run has reached, as text under `HEADINGS`."""
    rows: list[tuple[str, ...]] = []
    for one in runs:
        found, planned = one.figures, one.to_dict()["planned_steps"]
        rows.append(
            (
                one.label,
                one.run.state,
                f"{found.step:,}" + (f" of {planned:,}" if planned else ""),
                compact(found.tokens),
                long_duration(found.seconds),
                _plain(found.tokens_per_second),
                _plain(found.validation_loss),
                _plain(one.best),
            )
        )
    return rows


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _plot(runs: Sequence[LoadedRun], name: str, axis: Axis, smoothing: float) -> PointPlot:
    series = []
    for one in runs:
        points = smoothed(points_of(one.rows, name, axis), smoothing)
        if points:
            plotted = [PlottedPoint(x, y) for x, y in thinned(points, MAX_PAGE_POINTS)]
            series.append(Series(one.label, plotted))
    return PointPlot(metric_title(name), AXES[axis], metric_title(name).lower(), series)
