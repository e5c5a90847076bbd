"""The curves of the chosen runs: one chart a metric, all runs in each, drawn again as the runs grow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nicegui import run, ui

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.reports.training_runs.curves import (
    AXES,
    Axis,
    metric_names,
    metric_title,
    points_of,
    smoothed,
    thinned,
)
from parakit.reports.training_runs.finding import MetricsReader, TrainingRun
from parakit.serving.studio.charts import color_of, line_chart
from parakit.serving.studio.widgets.chart import Chart

FIRST_SHOWN = 8  # metrics that are shown without being chosen
DEFAULT_SMOOTHING = 0.6


@dataclass
class ShownRun:
    """A run with its rows and its color."""

    run: TrainingRun
    color: str
    reader: MetricsReader
    rows: list[JsonObject] = field(default_factory=list)
    gone: str = ""
    """The message, where its folder vanished."""

    def read(self) -> bool:
        """Read what is new; whether anything was."""
        before = (self.reader.n_bytes, self.gone)
        try:
            self.rows, self.gone = self.reader.read(), ""
        except UserError as error:
            self.gone = error.message
        return (self.reader.n_bytes, self.gone) != before


class ChosenRuns:
    """The runs that a page shows, by their order of choosing; colors stay with a run."""

    def __init__(self) -> None:
        self.shown: dict[str, ShownRun] = {}
        self.colors: dict[str, str] = {}

    def choose(self, runs: list[TrainingRun]) -> None:
        """Show exactly these."""
        for one in runs:
            self.colors.setdefault(one.id, color_of(len(self.colors)))
        kept = dict(self.shown)
        self.shown = {
            one.id: kept.get(one.id) or ShownRun(one, self.colors[one.id], MetricsReader(one.metrics))
            for one in runs
        }

    async def read(self) -> bool:
        """Read what is new in all of them, away from the event loop; whether anything was."""
        changed = [await run.io_bound(one.read) for one in list(self.shown.values())]
        return any(changed)


class CurvesTab:
    """Controls and charts. `refresh` draws what changed."""

    def __init__(self, chosen: ChosenRuns) -> None:
        self.chosen = chosen
        self.axis: Axis = "step"
        self.smoothing = DEFAULT_SMOOTHING
        self.log = False
        self.names: list[str] = []
        self.picked: list[str] | None = None
        self.charts: dict[str, Any] = {}
        with ui.row().classes("items-center full-width"):
            ui.select(dict(AXES), value="step", label="Horizontal axis", on_change=self._set_axis).classes(
                "studio-narrow"
            )
            with ui.column().classes("studio-tight"):
                label = ui.label(f"Smoothing {DEFAULT_SMOOTHING:.2f}").classes("studio-small studio-muted")
                slider = ui.slider(min=0, max=0.99, step=0.01, value=self.smoothing).classes("studio-narrow")
                slider.props('aria-label="Smoothing"')
                slider.on_value_change(lambda e: self._set_smoothing(e.value, label))
            ui.checkbox("Logarithmic", value=False, on_change=self._set_log)
            self.metrics = ui.select(
                {}, multiple=True, label="Metrics", on_change=lambda e: self._pick(e.value)
            ).classes("studio-wide")
        self.notes = ui.column().classes("full-width studio-tight")
        self.legend = ui.row().classes("full-width").props('role="list" aria-label="Runs"')
        self.grid = ui.element("div").classes("studio-grid full-width")

    def refresh(self) -> None:
        """Draw the chosen runs as they are now."""
        shown = list(self.chosen.shown.values())
        names = metric_names([row for one in shown for row in one.rows])
        if names != self.names:
            self.names = names
            picked = [name for name in (self.picked or names[:FIRST_SHOWN]) if name in names]
            self.metrics.set_options({name: metric_title(name) for name in names}, value=picked)
        self._draw_legend(shown)
        wanted = [name for name in names if name in (self.metrics.value or [])]
        if list(self.charts) != wanted:
            self.grid.clear()
            self.charts = {}
            with self.grid:
                for name in wanted:
                    with ui.element("section").classes("studio-card studio-stack"):
                        ui.label(metric_title(name)).classes("studio-small text-weight-medium")
                        self.charts[name] = Chart({}).classes("full-width studio-chart")
        for name, chart in self.charts.items():
            chart.show(self._options(name, shown))

    def _draw_legend(self, shown: list[ShownRun]) -> None:
        self.legend.clear()
        self.notes.clear()
        with self.legend:
            for one in shown:
                with ui.row().classes("items-center studio-near").props('role="listitem"'):
                    ui.element("span").style(f"background:{one.color}").classes("studio-line")
                    ui.label(f"{one.run.name} · {one.run.state}").classes("studio-small")
        with self.notes:
            for one in shown:
                if one.gone:
                    ui.label(one.gone).classes("text-negative studio-small").props('role="alert"')
                elif one.reader.damaged:
                    ui.label(f"{one.run.name}: {one.reader.damaged} lines are damaged and left out").classes(
                        "text-warning studio-small"
                    )

    def _options(self, name: str, shown: list[ShownRun]) -> dict[str, Any]:
        curves, faint = [], []
        for one in shown:
            points = points_of(one.rows, name, self.axis)
            if not points:
                continue
            smooth = name.startswith("step/") and name != "step/learning_rate" and self.smoothing > 0
            if smooth:
                faint.append((one.color, thinned(points)))
            curves.append(
                (one.run.name, one.color, thinned(smoothed(points, self.smoothing if smooth else 0)))
            )
        positive = all(y > 0 for _, _, points in curves for _, y in points)
        return line_chart(
            curves,
            AXES[self.axis],
            self.log and positive,
            faint,
            f"{metric_title(name)} of {len(curves)} runs by {AXES[self.axis]}",
        )

    def _set_axis(self, event: Any) -> None:
        self.axis = event.value
        self.refresh()

    def _set_smoothing(self, value: float, label: Any) -> None:
        self.smoothing = float(value)
        label.set_text(f"Smoothing {self.smoothing:.2f}")
        self.refresh()

    def _set_log(self, event: Any) -> None:
        self.log = bool(event.value)
        self.refresh()

    def _pick(self, names: list[str]) -> None:
        if names and set(names) != set(self.charts):
            self.picked = list(names)
            if self.charts:
                self.refresh()
