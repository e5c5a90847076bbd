"""What every page of `parakit inspect` has: where it is written, its frame, shades of cells, bars and maps.

A page needs no network and runs no script; its own security policy forbids both. Every text passes through the template's
autoescape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from parakit.common.files import JsonObject, write_text_atomic
from parakit.inspection.vectors.projection import PlaneMap
from parakit.reports.rendering import page_template

MAX_BYTES = 5_000_000
MAX_CELLS = 12_000  # of a table: with their titles about 4 MB
SHADES = 20
MAP_WIDTH, MAP_HEIGHT, MARGIN = 960, 640, 60  # pixels
MAX_LABEL = 28  # letters of a place on a map


def write_page(page: str, path: str | Path) -> Path:
    """Write a page to `path`, whole or not at all, over what is there."""
    size = len(page.encode())
    assert size <= MAX_BYTES, f"a page of {size} bytes"
    write_text_atomic(path, page)
    return Path(path)


def render(name: str, verb: str, heading: str, model: str, lede: str, **content: object) -> str:
    """A page as HTML text: the template `name` with the frame's texts and its content."""
    frame: JsonObject = {
        "verb": verb,
        "heading": heading,
        "model": model,
        "lede": lede,
        "command": f"parakit inspect {verb} {model}",
        "method": "",
    }
    return page_template(name).render(frame | content)


def shade(share: float) -> int:
    """The class of a cell for a share of 0 to 1."""
    return round(SHADES * min(max(share, 0.0), 1.0)) if share == share else 0


def bar_rows(
    rows: Iterable[tuple[str, float, str, str]],
    others: Mapping[str, float] | None = None,
    longest: float | None = None,
) -> list[JsonObject]:
    """Rows of (name, value, text, title) for the macro `bars`; `others`: a second value by name, on the same scale.
    `longest`: the value of a full bar, which larger ones have too; None: the largest.
    """
    rows = list(rows)
    every = [value for _, value, _, _ in rows] + list((others or {}).values())
    full = longest or max(every, default=0.0) or 1.0

    def share(value: float) -> float:
        return round(100 * min(max(value, 0.0) / full, 1.0), 2)

    return [
        {
            "name": name,
            "share": share(value),
            "text": text,
            "title": title,
            "second": share(others[name]) if others is not None and name in others else None,
        }
        for name, value, text, title in rows
    ]


def map_view(found: PlaneMap, strong: Iterable[str] = (), alone: bool = False) -> JsonObject:
    """A map for the template `inspect_map.svg`; `strong` labels are drawn larger. `alone`: an SVG file of its own."""
    low, high = found.points.min(0), found.points.max(0)
    span = high - low
    span[span == 0] = 1.0
    strong = set(strong)
    places = []
    for label, point in zip(found.labels, found.points, strict=True):
        x, y = (point - low) / span
        shown = label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"
        places.append(
            {
                "label": label,
                "shown": shown,
                "strong": label in strong,
                "x": round(MARGIN + float(x) * (MAP_WIDTH - 3 * MARGIN), 1),
                "y": round(MAP_HEIGHT - MARGIN - float(y) * (MAP_HEIGHT - 2 * MARGIN), 1),
            }
        )
    note = "Neighbours are kept together (t-SNE); distances between groups mean nothing."
    if found.explained is not None:
        first, second = (f"{100 * share:.0f} %" for share in found.explained)
        note = f"The first two principal components, with {first} and {second} of the variance."
    return {
        "places": sorted(places, key=lambda one: one["strong"]),
        "note": note,
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
        "alone": alone,
    }


def render_map(found: PlaneMap, strong: Iterable[str] = ()) -> str:
    """A map as the text of an SVG file."""
    return page_template("inspect_map.svg").render(map=map_view(found, strong, alone=True))


def visible(token: str) -> str:
    """A token in a cell: a line break and a lone space are shown."""
    shown = token.replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")
    return shown if shown.strip() else shown.replace(" ", "␣") or "∅"
