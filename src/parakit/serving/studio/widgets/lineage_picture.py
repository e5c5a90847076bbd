"""The picture of a lineage: boxes from the text on the left to the model on the right."""

from __future__ import annotations

from nicegui.element import Element

from parakit.common.files import JsonObject


class LineagePicture(Element, component="lineage_picture.js"):  # type: ignore[call-arg]
    """A drawing, as `inventory.lineage_view.drawing_json` makes it."""

    def __init__(self, drawing: JsonObject) -> None:
        super().__init__()
        self.props["drawing"] = drawing
