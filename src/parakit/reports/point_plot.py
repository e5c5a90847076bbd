"""A picture of points with intervals, as one SVG file: a score against a size, a setting, a number of shots.

It needs no library and no style sheet, so it can stand in a page, in a paper and next to a README. Geometry is computed
here; the template draws it, and every text passes through its autoescape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import Environment, PackageLoader

from parakit.common.files import JsonObject
from parakit.common.formatting import compact
from parakit.reports.charts import ticks

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP = 66, 620, 44
PALETTE = ("#2f6db3", "#b2452f", "#3d8b4f", "#8a6bb0", "#c2860f", "#0d7a70", "#a34d7e", "#5d6470")
MAX_SERIES = len(PALETTE)
LEGEND_ROW, LEGEND_CHAR, LEGEND_GAP = 18, 6.4, 34  # pixels
LOG_RATIO = 4  # of the greatest to the least place from which on an axis of numbers is logarithmic
Scale = Literal["linear", "log", "words"]


@dataclass(frozen=True)
class PlottedPoint:
    """A value at a place, with its interval; without one `low` and `high` are infinite."""

    x: float
    y: float
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Series:
    """Points that belong together, joined by a line; `chance`: the score of guessing."""

    label: str
    points: Sequence[PlottedPoint]
    chance: float | None = None


@dataclass(frozen=True)
class PointPlot:
    """A picture. `words`: the names of the places 0, 1, ... where they are no numbers; `percent`: scores are shares of 1."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    words: Sequence[str] = ()
    percent: bool = False


def draw_points(plot: PointPlot) -> str:
    """The picture as SVG text."""
    environment = Environment(
        loader=PackageLoader("parakit.reports", "page"), autoescape=True, trim_blocks=True
    )
    return environment.get_template("points.svg").render(geometry(plot))


def geometry(plot: PointPlot) -> JsonObject:
    """All that the template `points.svg` draws; a page includes it with these names."""
    series = plot.series[:MAX_SERIES]
    scale = axis_scale([point.x for one in series for point in one.points], bool(plot.words))
    legend, n_rows = _legend([one.label for one in series])
    bottom = HEIGHT - 56 - LEGEND_ROW * n_rows
    y_ticks = _y_ticks(series)
    place_x, x_ticks = _x_axis(plot, series, scale)

    def place_y(value: float) -> float:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return round(bottom - (bottom - TOP) * min(max(share, 0.0), 1.0), 2)

    return {
        "plot": plot,
        "box": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": bottom},
        "y_ticks": [(place_y(value), _written(value, plot.percent)) for value in y_ticks],
        "x_ticks": x_ticks,
        "curves": [
            _curve(one, colour, place_x, place_y) for one, colour in zip(series, PALETTE, strict=False)
        ],
        "legend": legend,
        "left_out": len(plot.series) - len(series),
    }


def axis_scale(places: Sequence[float], words: bool = False) -> Scale:
    """How an axis with these places is divided: by powers where they span some, of numbers that are all above 0."""
    if words:
        return "words"
    return "log" if min(places) > 0 and max(places) >= LOG_RATIO * min(places) else "linear"


@dataclass(frozen=True)
class _Curve:
    colour: str
    path: str
    dots: list[tuple[float, float]]
    whiskers: list[tuple[float, float, float]]
    chance: float | None


def _curve(
    series: Series, colour: str, place_x: Callable[[float], float], place_y: Callable[[float], float]
) -> _Curve:
    points = sorted(series.points, key=lambda point: point.x)
    dots = [(place_x(point.x), place_y(point.y)) for point in points]
    whiskers = [
        (place_x(point.x), place_y(point.low), place_y(point.high))
        for point in points
        if math.isfinite(point.low)
    ]
    path = "M" + "L".join(f"{x} {y}" for x, y in dots)
    return _Curve(colour, path, dots, whiskers, None if series.chance is None else place_y(series.chance))


def _x_axis(
    plot: PointPlot, series: Sequence[Series], scale: Scale
) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    places = sorted({point.x for one in series for point in one.points})
    shift = math.log if scale == "log" else float
    low, high = shift(places[0]), shift(places[-1])
    margin = 0.06 * (high - low) or 0.5

    def place(x: float) -> float:
        share = (shift(x) - low + margin) / (high - low + 2 * margin)
        return round(LEFT + (RIGHT - LEFT) * share, 2)

    if scale == "words":
        return place, [(place(x), plot.words[int(x)]) for x in places]
    marked, shown = [], -math.inf
    for x in places:  # the measured places themselves, but for labels that would touch
        if place(x) - shown >= 46:
            marked.append((place(x), _place_name(x)))
            shown = place(x)
    return place, marked


def _y_ticks(series: Sequence[Series]) -> list[float]:
    """Ticks that hold every point and chance line; an interval may end outside, and is cut there."""
    values = [point.y for one in series for point in one.points]
    values += [one.chance for one in series if one.chance is not None]
    spread = max(values) - min(values) or abs(values[0]) / 10 or 1.0
    ends = [
        end for one in series for point in one.points for end in (point.low, point.high) if math.isfinite(end)
    ]
    low, high = min(values) - 1.5 * spread, max(values) + 1.5 * spread
    values += [min(max(end, low), high) for end in ends]
    return ticks(min(values), max(values), 5)


def _legend(labels: Sequence[str]) -> tuple[list[tuple[float, int, str, str]], int]:
    """Each label with its place and its colour, row by row; the number of rows. One label without words has none."""
    if not any(labels):
        return [], 0
    placed: list[tuple[float, int, str, str]] = []
    x, row = float(LEFT), 0
    for label, colour in zip(labels, PALETTE, strict=False):
        width = LEGEND_CHAR * len(label) + LEGEND_GAP
        if x > LEFT and x + width > RIGHT:
            x, row = float(LEFT), row + 1
        placed.append((round(x, 1), row, label, colour))
        x += width
    return placed, row + 1


def _place_name(value: float) -> str:
    """A place: 0.01, 400, 12.5k, 135M."""
    return f"{value:g}" if abs(value) < 10_000 else compact(value).replace(" ", "")


def _written(value: float, percent: bool) -> str:
    return f"{100 * value:g} %" if percent else f"{value:g}"
