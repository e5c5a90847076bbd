"""Attention of any layer and head for a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import ui

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.loaded_model import Model
from parakit.inspection.attention import attention_maps
from parakit.inspection.inputs import ModelInput, encode_input
from parakit.inspection.sites import layers
from parakit.reports.inspection.attention_page import attention_data
from parakit.serving.studio.look_inside.attention_view import AttentionView
from parakit.serving.studio.look_inside.models import MODELS
from parakit.serving.studio.working import working

MAX_CELLS = (
    12_000_000  # weights of all layers that are computed and sent at once; above it one layer at a time
)
EXAMPLES = (
    "The animal did not cross the street because it was too tired.",
    "The keys to the cabinet are new, and they lie on the table.",
    "Anna met Paul at the bank of the river, and she gave him a letter.",
)


def attention_page_data(
    model: Model, text: str | ModelInput, target: str | None, kind: str, layer: int | None
) -> JsonObject:
    """What the view draws, and the layers that there are. Of a long text it is one layer: the chosen one, or the middle."""
    given = encode_input(model, text, target) if isinstance(text, str) else text
    numbers = sorted({one.number for one in layers(model.network)})
    longest = max(len(given.token_ids), len(given.source_ids))
    n_cells = sum(one.n_heads * len(one.attentions) for one in layers(model.network)) * longest**2
    if layer is None and n_cells > MAX_CELLS:
        layer = numbers[len(numbers) // 2]
    maps = attention_maps(model, given, layer=layer, kind="norms" if kind == "norms" else "weights")
    page = attention_data(maps, tuple(model.tokenizer.special_tokens))
    return {"page": page, "layers": numbers, "layer": layer, "n_tokens": longest}


class AttentionTab:
    """A text, and its attention."""

    def __init__(self, get_model: Any) -> None:
        self.get_model = get_model
        with ui.row().classes("full-width items-end studio-near"):
            self.text = ui.textarea("Text", value=EXAMPLES[0]).props("autogrow outlined dense rows=2")
            self.text.classes("studio-grow studio-wide")
            self.target = (
                ui.input("Target (encoder-decoder only)").props("outlined dense").classes("studio-wide")
            )
            self.target.set_visibility(False)
        with ui.row().classes("full-width items-center studio-near"):
            ui.button("Look", icon="visibility", on_click=self.look).props("no-caps")
            self.kind = (
                ui.select(
                    {"weights": "weights", "norms": "weights × length of the values"},
                    value="weights",
                    label="What is shown",
                )
                .props("dense")
                .classes("studio-wide")
            )
            self.layer = ui.select({-1: "all layers"}, value=-1, label="Layers").props("dense")
        with ui.row().classes("items-center studio-tight"):
            ui.label("Examples:").classes("studio-small studio-muted")
            for example in EXAMPLES:
                ui.button(f"{example[:24]}…", on_click=lambda e=example: self._example(e)).props(
                    "flat dense no-caps size=sm"
                )
        self.note = ui.label().classes("studio-small studio-muted").props('role="status"')
        self.view = AttentionView()

    def set_family(self, is_pair: bool) -> None:
        """Whether the model reads a target too."""
        self.target.set_visibility(is_pair)
        self.layer.set_options({-1: "all layers"}, value=-1)
        self.view.empty()
        self.note.set_text("")

    async def _example(self, text: str) -> None:
        self.text.set_value(text)
        await self.look()

    async def look(self, given: ModelInput | None = None, layer: int = -1, head: int = -1) -> None:
        """Compute and draw; of a prepared input, at a layer and head."""
        path: Path | None = self.get_model()
        if path is None:
            return
        text: Any = given if isinstance(given, ModelInput) else self.text.value or ""
        chosen = None if self.layer.value in (None, -1) else int(self.layer.value)
        async with working(self.note, "reading the text") as failed:
            found = await MODELS.compute(
                path, _checked, text, self.target.value or None, self.kind.value, chosen
            )
            options = {-1: "all layers"} | {number: str(number) for number in found["layers"]}
            self.layer.set_options(options, value=-1 if found["layer"] is None else found["layer"])
            self.view.show(found["page"])
            if layer >= 0:
                self.view.choose(layer, head)
        if not failed:
            shown = "" if found["layer"] is None else f", layer {found['layer']} of {len(found['layers'])}"
            self.note.set_text(f"{found['n_tokens']} tokens{shown}.")


def _checked(model: Model, text: Any, target: str | None, kind: str, layer: int | None) -> JsonObject:
    if isinstance(text, str) and not text.strip():
        raise UserError("there is no text", "write one")
    return attention_page_data(model, text, target, kind, layer)
