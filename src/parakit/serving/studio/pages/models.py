"""The page of models: builds and models below the studio's folder, how each was made, and import, export and delete."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from nicegui import ui

from parakit.common.errors import UserError
from parakit.common.formatting import byte_size, compact, long_duration
from parakit.reports.training_runs.finding import TrainingRun, find_runs
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.frame import heading
from parakit.serving.studio.inventory.finding import FoundFolder, find_folders, folder_bytes
from parakit.serving.studio.inventory.model_facts import ModelFacts, model_facts
from parakit.serving.studio.inventory.scores import CORPUS_PAGE, REPORT, BuildFigures, build_figures
from parakit.serving.studio.inventory.trash import Trash
from parakit.serving.studio.report_files import report_url
from parakit.serving.studio.widgets.model_dialogs import ExportDialog, ImportDialog, details_dialog
from parakit.serving.studio.widgets.tables import text_table

OTHERS = (
    "corpus",
    "tokenizer",
    "shards",
    "conversations",
    "preferences",
    "examples",
    "evaluation",
    "damaged",
)


class _ModelsPage:
    """One visitor's page."""

    def __init__(self, context: StudioContext) -> None:
        self.context, self.trash = context, Trash(context.root)

    async def build(self) -> None:
        with ui.element("div").classes("studio-row q-mb-md"):
            ui.label(str(self.context.root)).classes("studio-muted studio-mono")
            ui.space()
            start = ui.button("Import a model", icon="add", on_click=self.import_model)
            start.props("unelevated no-caps")
        self.content = ui.element("div").classes("studio-stack")
        await self.show()

    async def show(self) -> None:
        """Read the folder again and show it."""
        found = await asyncio.to_thread(find_folders, self.context.root)
        facts = {one.name: await asyncio.to_thread(model_facts, one.path) for one in found if one.is_model}
        sizes = {
            one.name: await asyncio.to_thread(folder_bytes, one.path)
            for one in found
            if one.is_model or one.kind == "gguf"
        }
        builds = [one for one in found if one.kind == "build"]
        inside = {
            build.name: [one for one in found if one.is_model and one.path.is_relative_to(build.path)]
            for build in builds
        }
        in_builds = {one.name for models in inside.values() for one in models}
        self.content.clear()
        with self.content:
            if not any(one.is_model or one.kind in ("build", "gguf") for one in found):
                with ui.element("div").classes("studio-empty"):
                    ui.label(
                        "No models yet. `parakit build` makes one here, and Import takes a published one."
                    )
            for build in builds:
                figures = await asyncio.to_thread(build_figures, build.path)
                self._build(build, figures, inside[build.name], facts, sizes)
            alone = [one for one in found if one.is_model and one.name not in in_builds]
            if alone:
                with ui.element("section").classes("studio-card"):
                    heading("Models")
                    for one in alone:
                        self._model(one, facts[one.name], sizes[one.name])
            self._runs(await asyncio.to_thread(find_runs, self.context.root))
            self._files([one for one in found if one.kind == "gguf"], sizes)
            self._others([one for one in found if one.kind in OTHERS])
            self._trash()

    # --- parts
    def _build(
        self,
        build: FoundFolder,
        figures: BuildFigures,
        models: list[FoundFolder],
        facts: dict[str, ModelFacts],
        sizes: dict[str, int],
    ) -> None:
        with ui.element("section").classes("studio-card"):
            with ui.element("div").classes("studio-row"):
                heading(build.name)
                ui.label("build").classes("studio-chip")
                if figures.seconds is None:
                    ui.label("not finished").classes("studio-chip studio-warn")
                else:
                    made = f"{figures.created[:10]}, {long_duration(figures.seconds)}"
                    ui.label(made).classes("studio-muted studio-small")
                ui.space()
                for file, title in ((REPORT, "Report"), (CORPUS_PAGE, "Corpus")):
                    if (build.path / file).is_file():
                        _link(title, report_url(build.name, file), "open_in_new", is_new=True)
            stages = [stage for _, stage in figures.models]  # in pipeline order
            for one in sorted(models, key=lambda one: _place(one.path.name, stages)):
                stage = one.path.relative_to(build.path).as_posix()
                self._model(one, facts[one.name], sizes[one.name], stage)
            if figures.scores:
                with ui.expansion("Scores, with 95 % intervals").classes("studio-fold"):
                    _scores(figures)

    def _model(self, one: FoundFolder, facts: ModelFacts, size: int, title: str = "") -> None:
        with ui.element("div").classes("model-row"):
            with ui.element("div"):
                ui.label(title or one.name).classes("model-name")
                with ui.element("div").classes("model-facts"):
                    ui.label(facts.kind).classes("text-negative" if facts.fault else "")
                    if facts.fault:
                        ui.label(facts.fault)
                    else:
                        ui.label(f"{compact(facts.n_parameters)} parameters")
                        ui.label(f"context {facts.max_seq_len:,}")
                        ui.label(byte_size(size))
            with ui.element("div").classes("model-actions"):
                if facts.generates:
                    _link("Chat", f"/chat?model={quote(one.name)}", "chat", label=f"Chat with {one.name}")
                _icon("info", f"Details of {one.name}", lambda: details_dialog(one, facts))
                if not facts.fault:
                    _icon(
                        "download", f"Export {one.name}", lambda: ExportDialog(self.context.root, one).open()
                    )
                _icon("delete", f"Delete {one.name}", lambda: self.delete(one))

    def _runs(self, runs: list[TrainingRun]) -> None:
        """Those that have no model yet; the page of training has them all."""
        unfinished = [run for run in runs if run.state != "finished"]
        if not unfinished:
            return
        with ui.element("section").classes("studio-card"):
            heading("Runs without a model yet")
            for run in unfinished[:50]:
                with ui.element("div").classes("model-row"):
                    with ui.element("div"):
                        ui.label(run.name).classes("model-name")
                        ui.label(run.state).classes("studio-muted studio-small")
                    with ui.element("div").classes("model-actions"):
                        _link("Curves", "/training", "show_chart", label=f"Curves of {run.name}")

    def _files(self, files: list[FoundFolder], sizes: dict[str, int]) -> None:
        if not files:
            return
        with ui.element("section").classes("studio-card"):
            heading("GGUF files")
            for one in files:
                with ui.element("div").classes("model-row"):
                    with ui.element("div"):
                        ui.label(one.name).classes("model-name")
                        ui.label(byte_size(sizes[one.name])).classes("studio-muted studio-small")
                    with ui.element("div").classes("model-actions"):
                        _icon("add", f"Import {one.name}", lambda one=one: self.import_model(str(one.path)))
                        _icon("delete", f"Delete {one.name}", lambda one=one: self.delete(one))

    def _others(self, others: list[FoundFolder]) -> None:
        """What models are made from."""
        if not others:
            return
        with ui.expansion(f"{len(others)} other folders").classes("studio-card studio-fold"):
            rows = [
                [one.name, one.kind, one.fault or str(one.lineage.get("created", ""))[:10]]
                for one in others[:500]
            ]
            text_table(["folder", "kind", "made"], rows, "Other folders", n_text=3)

    def _trash(self) -> None:
        deleted = self.trash.list()
        if not deleted:
            return
        with ui.expansion(f"Trash: {len(deleted)}").classes("studio-card studio-fold"):
            ui.label(f"In {self.trash.folder}; removing that folder frees the space.").classes(
                "studio-muted studio-small"
            )
            for entry in deleted:
                with ui.element("div").classes("model-row"):
                    ui.label(entry.name).classes("model-name")
                    button = ui.button("Put back", on_click=lambda one=entry.id: self.restore(one))
                    button.props("flat dense no-caps").props["aria-label"] = f"Put back {entry.name}"

    # --- actions
    def import_model(self, source: str = "") -> None:
        ImportDialog(self.context.root, self.show, source).open()

    async def delete(self, one: FoundFolder) -> None:
        """Into the trash, after a question; a model that answers requests stays."""
        with ui.dialog(value=True) as dialog, ui.card().classes("studio-dialog"):
            heading("Move to the trash?")
            ui.label(one.name).classes("studio-mono")
            ui.label("It can be put back from the end of this page.").classes("studio-muted")
            with ui.element("div").classes("studio-row"):
                ui.button("Move to the trash", on_click=lambda: dialog.submit(True)).props(
                    "unelevated no-caps color=negative"
                )
                ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
        if await dialog:
            await self._unload(one)
            await asyncio.to_thread(self.trash.delete, one)
            await self.show()

    async def _unload(self, one: FoundFolder) -> None:
        registry = self.context.registry
        for location in registry.locations if registry is not None else ():
            if registry is not None and location.path.resolve() == one.path.resolve():
                if registry.n_users(location.name):
                    raise UserError(f"{one.name}: answers a request just now", "stop it first")
                await registry.unload(location.name)

    async def restore(self, entry_id: str) -> None:
        await asyncio.to_thread(self.trash.restore, entry_id)
        await self.show()


async def build(context: StudioContext) -> None:
    """Build the page."""
    await _ModelsPage(context).build()


def _place(stage: str, stages: list[str]) -> int:
    return stages.index(stage) if stage in stages else len(stages)


def _scores(figures: BuildFigures) -> None:
    keys = [key for key, _ in figures.models]
    rows = []
    for suite, scores in figures.scores:
        chance = (figures.chance or {}).get(suite)
        cells = [
            f"{100 * s.value:.0f} % ({100 * s.low:.0f} to {100 * s.high:.0f})"
            if (s := scores.get(key))
            else ""
            for key in keys
        ]
        rows.append([suite, *cells, "" if chance is None else f"{100 * chance:.0f} %"])
    text_table(["suite", *(stage for _, stage in figures.models), "guessing"], rows, "Scores of the build")


def _link(title: str, url: str, icon: str, is_new: bool = False, label: str = "") -> None:
    link = ui.element("a").classes("studio-button-link")
    link.props["href"] = url
    if label:
        link.props["aria-label"] = label
    if is_new:
        link.props("target=_blank rel=noopener")
    with link:
        ui.icon(icon, size="18px")
        ui.label(title)


def _icon(icon: str, label: str, on_click: object) -> None:
    button = ui.button(icon=icon, on_click=on_click).props("flat round dense color=primary")
    button.props["aria-label"] = label
    with button:
        ui.tooltip(label)
