"""The chosen runs next to each other: what they reached, the settings in which they differ, what they wrote, their time."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from parakit.common.formatting import long_duration, quantity
from parakit.reports.formatting import humanize
from parakit.reports.training_runs.curves import run_figures, samples_of, setting_differences
from parakit.reports.training_runs.finding import planned_steps, run_settings, stage_seconds
from parakit.serving.studio.charts import bar_chart
from parakit.serving.studio.training.curves_tab import ChosenRuns, ShownRun
from parakit.serving.studio.widgets.chart import Chart

MAX_SAMPLE_STEPS = 40


def show_figures(chosen: ChosenRuns) -> None:
    """A table of what each run has reached, and one of the settings in which they differ."""
    shown = list(chosen.shown.values())
    if not shown:
        ui.label("Choose one run or more.").classes("studio-muted")
        return
    columns = [
        ("run", "Run"),
        ("state", "State"),
        ("step", "Step"),
        ("tokens", "Tokens"),
        ("time", "Time"),
        ("rate", "Tokens a second"),
        ("loss", "Loss"),
        ("validation", "Validation loss"),
        ("bits", "Bits per byte"),
    ]
    _table(columns, [_figures_row(one) for one in shown], "What the runs reached")
    if len(shown) < 2:
        ui.label("Choose two runs or more to see the settings in which they differ.").classes("studio-muted")
        return
    names = {f"run{i}": one.run.name for i, one in enumerate(shown)}
    settings = {f"run{i}": run_settings(one.run) for i, one in enumerate(shown)}
    rows = [{"setting": name} | values for name, values in setting_differences(settings)]
    if rows:
        _table([("setting", "Setting"), *names.items()], rows, "Settings in which the runs differ")
    else:
        ui.label("The runs have the same settings.").classes("studio-muted")


def _figures_row(one: ShownRun) -> dict[str, Any]:
    found, planned = run_figures(one.rows), planned_steps(one.run)
    return {
        "run": one.run.name,
        "state": one.run.state,
        "step": f"{found.step:,}" + (f" of {planned:,}" if planned else ""),
        "tokens": quantity(found.tokens),
        "time": long_duration(found.seconds),
        "rate": "" if found.tokens_per_second is None else f"{found.tokens_per_second:,.0f}",
        "loss": _plain(found.loss),
        "validation": _plain(found.validation_loss),
        "bits": _plain(found.bits_per_byte),
    }


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(columns: list[tuple[str, str]], rows: list[dict[str, Any]], title: str) -> None:
    ui.label(title).classes("text-weight-medium")
    ui.table(
        columns=[
            {"name": key, "label": label, "field": key, "align": "left", "sortable": True}
            for key, label in columns
        ],
        rows=rows,
        row_key=columns[0][0],
    ).classes("full-width").props(
        f'flat bordered dense wrap-cells aria-label="{title}" hide-pagination'
    ).props(":rows-per-page-options=[0]")


def show_samples(chosen: ChosenRuns) -> None:
    """What each run's model wrote, by step, with a slider over the steps."""
    any_samples = False
    for one in chosen.shown.values():
        found = samples_of(one.rows)[-MAX_SAMPLE_STEPS:]
        if not found:
            continue
        any_samples = True
        with ui.element("section").classes("studio-card studio-stack"):
            ui.label(one.run.name).classes("text-weight-medium")
            title = ui.label().classes("studio-small studio-muted")
            slider = ui.slider(min=0, max=len(found) - 1, step=1, value=len(found) - 1)
            slider.props('aria-label="Step of the samples" markers').classes("full-width studio-prose")
            box = ui.column().classes("full-width studio-near")

            def draw(number: int, found: list[Any] = found, title: Any = title, box: Any = box) -> None:
                step, samples = found[number]
                title.set_text(f"After step {step:,}, {number + 1} of {len(found)}")
                box.clear()
                with box:
                    for sample in samples:
                        with ui.element("div").classes("studio-text studio-break studio-small"):
                            ui.label(str(sample.get("prompt", ""))).classes(
                                "studio-inline text-weight-medium"
                            )
                            ui.label(str(sample.get("completion", sample.get("text", "")))).classes(
                                "studio-inline"
                            )

            slider.on_value_change(lambda e, draw=draw: draw(int(e.value)))
            draw(len(found) - 1)
    if not any_samples:
        ui.label("None of the chosen runs has written samples yet.").classes("studio-muted")


def show_time(chosen: ChosenRuns) -> None:
    """Where the time of the chosen runs' builds went, by stage."""
    builds = dict.fromkeys(one.run.build for one in chosen.shown.values() if one.run.build is not None)
    any_time = False
    for build in builds:
        seconds = {name: value for name, value in stage_seconds(build).items() if value > 0}
        if not seconds:
            continue
        any_time = True
        with ui.element("section").classes("studio-card studio-stack"):
            ui.label(build.name).classes("text-weight-medium")
            ui.label(f"{long_duration(sum(seconds.values()))} in all").classes("studio-small studio-muted")
            rows = [(humanize(name), round(value, 2)) for name, value in seconds.items()]
            Chart(bar_chart(rows, "seconds")).classes("full-width").style(f"height:{60 + 26 * len(rows)}px")
    if not any_time:
        ui.label("The chosen runs are of no build, so their stages have no times.").classes("studio-muted")
