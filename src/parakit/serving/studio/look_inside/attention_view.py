"""The element that draws attention: Parakit's own view, the same as that of `parakit inspect attention --output`."""

from __future__ import annotations

from pathlib import Path

from nicegui import ui
from nicegui.element import Element

from parakit.common.files import JsonObject
from parakit.reports.rendering import page_template

_THEME = Path(__file__).with_suffix(".css")


class AttentionView(Element, component="attention_view.js"):
    """Draws what `attention_data` returns. `show` draws, `choose` goes to a layer and head, `clear` empties it."""

    def __init__(self) -> None:
        super().__init__()
        style = page_template("attention.css").render()
        ui.add_head_html(f"<style>.attention-view {{ {style}\n{_THEME.read_text()} }}</style>")
        ui.add_head_html(f"<script>{page_template('attention.js').render()}</script>")
        self._props["body"] = page_template("attention_body.html").render()

    def show(self, page: JsonObject) -> None:
        """Draw the maps of a text."""
        self.run_method("show", page)

    def choose(self, layer: int, head: int) -> None:
        """Show this layer and head; -1 is the mean of all heads."""
        self.run_method("choose", layer, head)

    def clear(self) -> None:  # type: ignore[override]
        """Take the maps away."""
        self.run_method("clear")
