"""Tables of plain text that scroll sideways on a narrow page."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]], label: str, n_text: int = 1) -> None:
    """A table; the first `n_text` columns are text, the others numbers. Cells are shown as they are."""
    region = ui.element("div").classes("studio-scroll").props("tabindex=0 role=region")
    region.props["aria-label"] = label
    with region, ui.element("table").classes("text-table"):
        with ui.element("thead"), ui.element("tr"):
            for i, column in enumerate(columns):
                with ui.element("th").props("scope=col").classes("" if i < n_text else "studio-right"):
                    ui.label(column)
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    for i, cell in enumerate(row):
                        with ui.element("td").classes("" if i < n_text else "studio-right studio-number"):
                            ui.label(cell)
