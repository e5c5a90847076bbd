"""The page Look inside: one model, and what it does with a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import run, ui

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.model.heads import SequenceToSequence
from parakit.serving.studio.look_inside.attention_tab import AttentionTab
from parakit.serving.studio.look_inside.behaviours_tab import BehavioursTab
from parakit.serving.studio.look_inside.compare_tab import CompareTab
from parakit.serving.studio.look_inside.lens_tab import LensTab
from parakit.serving.studio.look_inside.models import MODELS, model_folders, model_title, tuned_lenses
from parakit.serving.studio.look_inside.senses_tab import SensesTab
from parakit.serving.studio.look_inside.vectors_tab import VectorsTab
from parakit.serving.studio.working import working

TABS = {
    "attention": "Attention",
    "behaviours": "Behaviours",
    "lens": "Layers",
    "vectors": "Words",
    "senses": "Senses",
    "compare": "Compare",
}


def describe(model: Model) -> dict[str, Any]:
    """What the page says of a model."""
    network = model.network
    return {
        "text": f"{model.kind.description}, {sum(p.numel() for p in network.parameters()):,} parameters",
        "is_pair": isinstance(network, SequenceToSequence),
    }


class LookInsidePage:
    """What one visitor looks at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[str, Path] = {}
        with ui.row().classes("full-width items-end studio-near"):
            self.select = ui.select({}, label="Model", with_input=True, on_change=self._open)
            self.select.classes("studio-grow studio-wide")
            ui.button(icon="refresh", on_click=self.look_again).props(
                'flat round aria-label="Look for models again"'
            )
        self.status = ui.label().classes("studio-small studio-muted").props('role="status"')
        with ui.tabs().props("dense align=left no-caps mobile-arrows") as self.tabs:
            for name, title in TABS.items():
                ui.tab(name, title)
        with ui.tab_panels(self.tabs, value="attention", animated=False, keep_alive=True).classes(
            "full-width studio-panel"
        ):
            with ui.tab_panel("attention").classes("studio-panel"):
                self.attention = AttentionTab(self.model)
            with ui.tab_panel("behaviours").classes("studio-panel"):
                self.behaviours = BehavioursTab(self.model, self._show_head)
            with ui.tab_panel("lens").classes("studio-panel"):
                self.lens = LensTab(self.model)
            with ui.tab_panel("vectors").classes("studio-panel"):
                VectorsTab(self.model)
            with ui.tab_panel("senses").classes("studio-panel"):
                SensesTab(self.model)
            with ui.tab_panel("compare").classes("studio-panel"):
                self.compare = CompareTab(self.model)
        ui.timer(0.01, self.look_again, once=True)

    def model(self) -> Path | None:
        """The chosen model's folder."""
        return self.folders.get(self.select.value or "")

    async def look_again(self) -> None:
        """Find the models below the folder; the chosen one stays chosen."""
        found = await run.io_bound(model_folders, self.root)
        self.folders = {str(path): path for path in found or []}
        options = {name: model_title(path, self.root) for name, path in self.folders.items()}
        value = self.select.value if self.select.value in options else next(iter(options), None)
        self.compare.set_models(options)
        self.lens.set_translators(await run.io_bound(tuned_lenses, self.root) or {})
        self.select.set_options(options, value=value)
        if not options:
            self.status.set_text(f"There are no models below {self.root} yet.")

    async def _open(self) -> None:
        path = self.model()
        if path is None:
            return
        async with working(self.status, "loading the model") as failed:
            facts = await MODELS.compute(path, describe)
            self.attention.set_family(facts["is_pair"])
            self.behaviours.set_model(path)
            self.compare.suggest(path)
        if not failed:
            self.status.set_text(facts["text"])

    async def _show_head(self, given: Any, layer: int, head: int) -> None:
        self.tabs.set_value("attention")
        try:
            await self.attention.look(given, layer, head)
        except UserError as error:
            ui.notify(error.message, type="negative")
