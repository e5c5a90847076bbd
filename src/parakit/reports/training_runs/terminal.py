"""Curves of runs as lines of text: a box of characters, each of two by four dots (Unicode's Braille patterns), with axes.

Each run has a color where the terminal has colors, and a legend names the runs. Where curves cross, a character has the dots
of both and the color of the later one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from parakit.common.formatting import compact
from parakit.reports.charts import Point, ticks

# The bit of each dot of a Braille character, by its column (of 2) and row (of 4).
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
BLANK = 0x2800
COLORS = ("cyan", "yellow", "magenta", "green", "blue", "red", "white")


@dataclass(frozen=True)
class Cell:
    """A character, and the number of the curve that it belongs to; None: of no curve."""

    character: str
    curve: int | None = None


def draw_curves(
    curves: Mapping[str, Sequence[Point]], x_label: str, width: int = 72, height: int = 16
) -> list[list[Cell]]:
    """The picture of `curves`, line by line: `width` characters wide with its axis, and `height` high above the axis below.
    Curves without points are left out.
    """
    shown = [list(points) for points in curves.values()]
    all_points = [point for points in shown for point in points]
    if not all_points:
        return []
    low_x, high_x = _range(x for x, _ in all_points)
    low_y, high_y = _range(y for _, y in all_points)
    labels = {value: f"{value:.4g}" for value in ticks(low_y, high_y) if low_y <= value <= high_y}
    margin = max((len(label) for label in labels.values()), default=0) + 2
    n_columns = max(8, width - margin)
    dots: dict[tuple[int, int], tuple[int, int]] = {}  # bits and curve, by line and column
    for number, points in enumerate(shown):
        for x, y in _dense([(x, y) for x, y in points], (high_x - low_x) / (2 * n_columns)):
            column = min(2 * n_columns - 1, int((x - low_x) / (high_x - low_x) * (2 * n_columns - 1) + 0.5))
            row = min(4 * height - 1, int((high_y - y) / (high_y - low_y) * (4 * height - 1) + 0.5))
            place = (row // 4, column // 2)
            bits, _ = dots.get(place, (0, number))
            dots[place] = (bits | DOTS[column % 2][row % 4], number)
    rows = {
        round((high_y - value) / (high_y - low_y) * (height - 1)): label for value, label in labels.items()
    }
    lines = []
    for row in range(height):
        line = [Cell(c) for c in f"{rows.get(row, ''):>{margin - 2}} {'┤' if row in rows else '│'}"]
        for column in range(n_columns):
            bits, number = dots.get((row, column), (0, -1))
            line.append(Cell(chr(BLANK + bits), number) if bits else Cell(" "))
        lines.append(line)
    ends = f"{compact(low_x)}{x_label:^{max(1, n_columns - len(compact(low_x)) - len(compact(high_x)))}}{compact(high_x)}"
    lines.append([Cell(c) for c in " " * (margin - 1) + "└" + "─" * n_columns])
    lines.append([Cell(c) for c in " " * margin + ends])
    return lines


def _range(values: object) -> tuple[float, float]:
    found = [float(value) for value in values if math.isfinite(value)]  # type: ignore[attr-defined]
    low, high = min(found), max(found)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _dense(points: list[Point], step: float) -> list[Point]:
    """The points with as many between them as make a line without gaps."""
    result = points[:1]
    for (x0, y0), (x1, y1) in pairwise(points):
        n = max(1, min(400, math.ceil((x1 - x0) / step)) if step > 0 else 1)
        result += [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in range(1, n + 1)]
    return result
