"""How an artifact was made, from the text to it: the ancestors that its lineage names, as a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parakit.common.files import JsonObject
from parakit.common.lineages import find_ancestors
from parakit.reports.charts import BOX, Drawing, lineage_drawing
from parakit.reports.summary_schema import LineageEntry


@dataclass(frozen=True)
class LineageView:
    """`lost`: parents that are named and were not found, in words."""

    drawing: Drawing | None
    lost: tuple[str, ...]
    entries: tuple[LineageEntry, ...]


def lineage_view(folder: Path) -> LineageView:
    """The ancestors of an artifact; `UserError` where its own lineage cannot be read."""
    ancestry = find_ancestors(folder)
    made = sorted(ancestry.found.items(), key=lambda one: str(one[1].get("created") or ""))  # pipeline order
    entries = [_entry(path, lineage) for path, lineage in made]
    lost = tuple(
        f"{one.kind} {one.path}: {'another artifact is there now' if one.replaced else 'is gone'}"
        for one in ancestry.lost.values()
    )
    return LineageView(lineage_drawing(entries), lost, tuple(entries))


def drawing_json(drawing: Drawing) -> JsonObject:
    """As the element in the browser takes it."""
    width, height = BOX
    nodes = [
        {"x": node.x, "y": node.y, "stage": node.stage, "line": node.line, "digest": node.digest}
        for node in drawing.nodes
    ]
    size = {"width": drawing.width, "height": drawing.height, "box_width": width, "box_height": height}
    return {**size, "nodes": nodes, "edges": list(drawing.edges)}


def _entry(path: Path, lineage: JsonObject) -> LineageEntry:
    parents = tuple(str(parent["digest"]) for parent in lineage.get("parents") or ())
    return LineageEntry(
        stage=path.name,
        kind=str(lineage["kind"]),
        digest=str(lineage["digest"]),
        parents=parents,
        path=str(path),
        seconds=lineage.get("seconds"),
    )
