"""The page Training: runs below the studio's folder with live curves, a comparison, samples, times, and the queue of builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import run, ui

from parakit.reports.training_runs.finding import TrainingRun, find_runs
from parakit.serving.studio.training.comparison_tab import show_figures, show_samples, show_time
from parakit.serving.studio.training.curves_tab import ChosenRuns, CurvesTab
from parakit.serving.studio.training.doctor_tab import show_doctor
from parakit.serving.studio.training.queue_tab import QueueTab

REFRESH_SECONDS = 2.0
FIRST_CHOSEN = 2
TABS = {
    "curves": "Curves",
    "compare": "Compare",
    "samples": "Samples",
    "time": "Time",
    "doctor": "Doctor",
    "builds": "Builds",
}


PANELS = {"compare": show_figures, "samples": show_samples, "time": show_time, "doctor": show_doctor}


class TrainingPage:
    """What one visitor sees of the runs of `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: dict[str, TrainingRun] = {}
        self.chosen = ChosenRuns()
        with ui.row().classes("full-width items-end studio-near"):
            self.select = ui.select({}, multiple=True, label="Runs", on_change=self._choose)
            self.select.props("use-chips").classes("studio-grow studio-wide")
            ui.button(icon="refresh", on_click=self.look_again).props(
                'flat round aria-label="Look for runs again"'
            )
        self.empty = ui.label("").classes("studio-muted")
        with ui.tabs().props("dense align=left no-caps mobile-arrows") as self.tabs:
            for name, title in TABS.items():
                ui.tab(name, title)
        with ui.tab_panels(self.tabs, value="curves", animated=False).classes("full-width studio-panel"):
            with ui.tab_panel("curves").classes("studio-panel"):
                self.curves = CurvesTab(self.chosen)
            self.panels = {}
            for name in ("compare", "samples", "time", "doctor"):
                with ui.tab_panel(name).classes("studio-panel"):
                    self.panels[name] = ui.column().classes("full-width studio-near")
            with ui.tab_panel("builds").classes("studio-panel"):
                self.queue = QueueTab(root)
        self.tabs.on_value_change(lambda: self.draw())
        ui.timer(
            0.01, self.look_again, once=True
        )  # the page appears at once, its data as soon as they are read
        ui.timer(REFRESH_SECONDS, self.refresh)

    async def look_again(self) -> None:
        """Find the runs below the folder; those that were chosen stay chosen."""
        found = await run.io_bound(find_runs, self.root)
        self.runs = {one.id: one for one in found}
        before = [run_id for run_id in (self.select.value or []) if run_id in self.runs]
        running = [one.id for one in found if one.state == "running"]
        value = before or (running + [one.id for one in found if one.id not in running])[:FIRST_CHOSEN]
        self.select.set_options({one.id: f"{one.name} ({one.state})" for one in found}, value=value)
        self.empty.set_text(
            "" if found else f"There are no runs below {self.root} yet. Start a build under Builds."
        )
        await self._read(force=True)

    async def refresh(self) -> None:
        """What is new in the chosen runs and in the queue."""
        self.queue.refresh()
        if self.tabs.value not in ("builds", "doctor"):
            await self._read()

    async def _read(self, force: bool = False) -> None:
        self.chosen.choose([self.runs[run_id] for run_id in self.select.value or [] if run_id in self.runs])
        if await self.chosen.read() or force:
            self.draw()

    async def _choose(self, event: Any) -> None:
        await self._read(force=True)

    def draw(self) -> None:
        """Draw the open tab."""
        name = self.tabs.value or "curves"
        if name == "curves":
            self.curves.refresh()
        elif name in self.panels:
            self.panels[name].clear()
            with self.panels[name]:
                PANELS[name](self.chosen)
