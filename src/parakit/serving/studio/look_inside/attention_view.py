"""The element that draws attention: Parakit's own view, the same as that of `parakit inspect attention --output`."""

from __future__ import annotations

from pathlib import Path

from nicegui import app, ui
from nicegui.element import Element

from parakit.common.files import JsonObject
from parakit.reports.rendering import PAGE, page_template

_THEME = Path(__file__).with_suffix(".css")
_SCRIPT_URL = "/studio-view/attention.js"

app.add_static_file(local_file=PAGE / "attention.js", url_path=_SCRIPT_URL)


class AttentionView(Element, component="attention_view.js"):  # type: ignore[call-arg]
    """Draws what `attention_data` returns. `show` draws, `choose` goes to a layer and head, `empty` takes the maps away."""

    def __init__(self) -> None:
        super().__init__()
        ui.add_css(f".attention-view {{ {page_template('attention.css').render()}\n{_THEME.read_text()} }}")
        self._props["body"] = page_template("attention_body.html").render()
        self._props["script"] = _SCRIPT_URL

    def show(self, page: JsonObject) -> None:
        """Draw the maps of a text."""
        self.run_method("show", page)

    def choose(self, layer: int, head: int) -> None:
        """Show this layer and head; -1 is the mean of all heads."""
        self.run_method("choose", layer, head)

    def empty(self) -> None:
        """Take the maps away."""
        self.run_method("empty")
