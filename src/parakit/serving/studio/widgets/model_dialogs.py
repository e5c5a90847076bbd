"""Dialogs of the page of models: details with the lineage, import with a plan of memory, export."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from nicegui import background_tasks, ui

from parakit.common.errors import UserError
from parakit.common.formatting import byte_size, compact, long_duration
from parakit.serving.studio.frame import error_panel, heading
from parakit.serving.studio.inventory.commands import (
    RunningCommand,
    export_words,
    import_words,
    output_name,
    run_command,
)
from parakit.serving.studio.inventory.finding import FoundFolder
from parakit.serving.studio.inventory.lineage_view import drawing_json, lineage_view
from parakit.serving.studio.inventory.memory_plan import MemoryPlan, plan_memory
from parakit.serving.studio.inventory.model_facts import ModelFacts
from parakit.serving.studio.widgets.lineage_picture import LineagePicture
from parakit.serving.studio.widgets.tables import text_table

FORMATS = {
    "folder": "Hugging Face folder",
    "Q8_0": "GGUF, Q8_0",
    "Q4_K_M": "GGUF, Q4_K_M",
    "F16": "GGUF, F16",
}
Refresh = Callable[[], Awaitable[None]]


async def details_dialog(one: FoundFolder, facts: ModelFacts) -> None:
    """What a model is, what it takes, and from what it was made."""
    with ui.dialog(value=True), ui.card().classes("studio-dialog studio-dialog-wide"):
        heading(one.name)
        ui.label(str(one.path)).classes("studio-mono studio-muted")
        if facts.fault:
            error_panel(UserError(facts.fault))
        lineage = one.lineage
        rows = [
            ["kind", facts.kind],
            ["parameters", f"{facts.n_parameters:,}"],
            ["vocabulary", f"{facts.vocab_size:,}"],
            ["context", f"{facts.max_seq_len:,} tokens"],
        ]
        if lineage:
            rows += [
                ["made", str(lineage.get("created") or "")],
                ["time", long_duration(lineage.get("seconds"))],
                ["version", str(lineage.get("version") or "")],
                ["seed", str(lineage.get("seed"))],
                ["digest", one.digest],
            ]
        text_table(["", ""], rows, "Details", n_text=2)
        if not facts.fault:
            await _show_plan(str(one.path))
        if lineage:
            heading("From the text to this model", 3)
            view = await asyncio.to_thread(lineage_view, one.path)
            if view.drawing is not None:
                LineagePicture(drawing_json(view.drawing))
            for text in view.lost:
                ui.label(text).classes("studio-muted studio-small")


async def _show_plan(source: str) -> None:
    try:
        show_plan(await asyncio.to_thread(plan_memory, source))
    except UserError as error:
        error_panel(error)


def show_plan(plan: MemoryPlan) -> None:
    """What it will take, before anything is loaded."""
    heading("Memory", 3)
    if plan.n_parameters:
        context = f" with {plan.context:,} tokens of context" if plan.context else ""
        parts = ", ".join(f"{name} {byte_size(size)}" for name, size in plan.parts)
        ui.label(
            f"{compact(plan.n_parameters)} parameters, {byte_size(plan.disk_bytes)} on disk; {byte_size(plan.peak_bytes)}"
            f" in memory{context} ({parts})."
        )
    if plan.note:
        ui.label(plan.note).classes("studio-muted")
    if plan.available_bytes is not None and plan.peak_bytes:
        verdict = "it fits" if plan.fits else "it does not fit"
        label = ui.label(f"{byte_size(plan.available_bytes)} are free: {verdict}.")
        label.classes("text-weight-medium" if plan.fits else "text-weight-medium text-negative")


class _CommandDialog:
    """A dialog that starts one command and shows its output."""

    def __init__(self, root: Path, refresh: Refresh | None) -> None:
        self.root, self.refresh = root, refresh
        self.command: RunningCommand | None = None

    def log_area(self) -> None:
        """Where the output appears."""
        self.log = ui.label("").classes("command-log").props("role=log")
        self.log.set_visibility(False)

    def run(self, words: Sequence[str]) -> None:
        """Start the command, one at a time."""
        if self.command is not None and self.command.status is None:
            raise UserError("the command still runs", "wait for it, or close the dialog to stop it")
        self.command = RunningCommand(tuple(words))
        self.log.set_visibility(True)
        background_tasks.create(self._follow(self.command))

    async def _follow(self, command: RunningCommand) -> None:
        def show() -> None:
            end = "" if command.status is None else f"\n(ended with status {command.status})"
            self.log.text = f"$ {command.text}\n" + "\n".join(command.lines[-40:]) + end

        show()
        status = await run_command(command, self.root, show)
        if status == 0 and self.refresh is not None:
            with self.log:
                await self.refresh()


class ImportDialog(_CommandDialog):
    """Import a folder, a GGUF file or a model of the hub: first the plan, then the command."""

    def __init__(self, root: Path, refresh: Refresh, source: str = "") -> None:
        super().__init__(root, refresh)
        self.source = source

    def open(self) -> None:
        """Show it."""
        with ui.dialog(value=True), ui.card().classes("studio-dialog"):
            heading("Import a model")
            source = ui.input("Model folder, GGUF file, or org/name of the hub", value=self.source)
            source.props("outlined").classes("full-width")
            stem = Path(self.source).stem if self.source else "model"
            name = (
                ui.input("Name below this folder", value=f"models/{stem}")
                .props("outlined")
                .classes("full-width")
            )
            plan = ui.element("div").classes("studio-stack")

            async def show_memory() -> None:
                plan.clear()
                with plan:
                    await _show_plan(source.value or "")

            def start() -> None:
                output_name(self.root, name.value or "")
                self.run(import_words((source.value or "").strip(), (name.value or "").strip()))

            with ui.element("div").classes("studio-row"):
                ui.button("Plan memory", on_click=show_memory).props("outline no-caps")
                ui.button("Import", on_click=start).props("unelevated no-caps")
            self.log_area()


class ExportDialog(_CommandDialog):
    """Export a model as a plain folder or a GGUF file below the studio's folder."""

    def __init__(self, root: Path, model: FoundFolder) -> None:
        super().__init__(root, None)
        self.model = model

    def open(self) -> None:
        """Show it."""
        with ui.dialog(value=True), ui.card().classes("studio-dialog"):
            heading("Export")
            ui.label(self.model.name).classes("studio-mono studio-muted")
            kind = ui.select(FORMATS, value="folder", label="Format").props("outlined").classes("full-width")
            base = f"exports/{self.model.name.replace('/', '-')}"
            name = ui.input("Name below this folder", value=base).props("outlined").classes("full-width")

            def rename() -> None:
                name.value = base if kind.value == "folder" else f"{base}-{kind.value}.gguf"

            def start() -> None:
                output_name(self.root, name.value or "")
                self.run(export_words(self.model.path, (name.value or "").strip(), str(kind.value)))

            kind.on_value_change(rename)
            ui.button("Export", on_click=start).props("unelevated no-caps")
            self.log_area()
