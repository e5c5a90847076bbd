"""The reading order of a page: columns, and the lines in each.

A gutter is a strip that few lines cross and that has running text on both sides. Rows that cross it divide the page into
bands; in each, the left side is read before the right one, and each side is looked at again (after Nagy and Seth 1984,
"Hierarchical representation of optically scanned documents"). Columns of a table are no columns of text: their lines do not
fill them, and a row of it is read as one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from parakit.data.readers.formats.pdf.characters import Segment
from parakit.data.readers.formats.pdf.running_heads import rows_of

MIN_ROWS = 3  # of a column
MIN_GUTTER = 0.7  # of the characters' height
MIN_FILLED = 0.4  # share of a column's lines that reach nearly to its right edge
MIN_CHARACTERS = 14  # of a column's median line
MAX_DEPTH = 6
_LEVELS = (0.0, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65)  # share of the rows that may cross a gutter


@dataclass(slots=True)
class Line:
    """One line of a column; `column` counts through the document, `page` from 1."""

    text: str
    x0: float
    x1: float
    y: float
    size: float
    column: int = 0
    page: int = 0


def page_columns(segments: Sequence[Segment], page: int) -> list[list[Line]]:
    """The columns of a page in reading order, each a list of lines from the top down."""
    columns = [lines for part in _ordered(list(segments), 0) if (lines := _lines(part))]
    for line in (line for lines in columns for line in lines):
        line.page = page
    return columns


def _ordered(segments: list[Segment], depth: int) -> list[list[Segment]]:
    rows = rows_of(segments)
    if len(rows) < MIN_ROWS or depth >= MAX_DEPTH or (gutter := _gutter(segments, rows)) is None:
        return [segments]
    parts: list[list[Segment]] = []
    band: list[Segment] = []
    crossing: list[Segment] = []
    for row in rows:
        if any(s.x0 < gutter - 1 and s.x1 > gutter + 1 for s in row):
            parts += _sides(band, gutter, depth)
            band = []
            crossing += row
        else:
            if crossing:
                parts.append(crossing)
                crossing = []
            band += row
    parts += _sides(band, gutter, depth)
    return [*parts, crossing] if crossing else parts


def _sides(band: list[Segment], gutter: float, depth: int) -> list[list[Segment]]:
    parts = []
    for side in ([s for s in band if s.x1 <= gutter + 1], [s for s in band if s.x1 > gutter + 1]):
        if side:
            parts += _ordered(side, depth + 1)
    return parts


def _gutter(segments: list[Segment], rows: list[list[Segment]]) -> float | None:
    """The middle of the best gutter, None where there is none."""
    size = median(s.size for s in segments)
    left, right = min(s.x0 for s in segments), max(s.x1 for s in segments)
    n_bins = int(min(right - left, 5_000)) + 1
    steps = [0] * (n_bins + 1)
    for s in segments:
        steps[min(n_bins, max(0, int(s.x0 - left)))] += 1
        steps[min(n_bins, max(0, int(s.x1 - left) + 1))] -= 1
    cover, n = [], 0
    for step in steps[:-1]:
        n += step
        cover.append(n)
    tried: set[int] = set()
    for level in _LEVELS:
        runs = sorted(_runs(cover, level * len(rows)), key=lambda run: run[0] - run[1])
        for start, end in runs[:8]:
            middle = (start + end) // 2
            if end - start < MIN_GUTTER * size or middle in tried:
                continue
            tried.add(middle)
            if _divides(segments, left + middle):
                return left + middle
    return None


def _runs(cover: list[int], most: float) -> list[tuple[int, int]]:
    """The longest stretches of bins that at most `most` segments cover."""
    runs = []
    start = None
    for index, n in enumerate([*cover, 1 << 30]):
        if n <= most and start is None:
            start = index
        elif n > most and start is not None:
            runs.append((start, index))
            start = None
    return runs


def _divides(segments: list[Segment], x: float) -> bool:
    """Whether running text stands on both sides of `x`, side by side."""
    left = rows_of([s for s in segments if s.x1 <= x + 1])
    right = rows_of([s for s in segments if s.x0 >= x - 1])
    if not (_is_running_text(left) and _is_running_text(right)):
        return False
    top = min(left[0][0].y, right[0][0].y)
    bottom = max(left[-1][0].y, right[-1][0].y)
    shorter = min(left[0][0].y - left[-1][0].y, right[0][0].y - right[-1][0].y)
    return top - bottom > 0.3 * shorter


def _is_running_text(rows: list[list[Segment]]) -> bool:
    if len(rows) < MIN_ROWS:
        return False
    start, end = min(row[0].x0 for row in rows), max(row[-1].x1 for row in rows)
    filled = sum(row[-1].x1 - row[0].x0 > 0.8 * (end - start) for row in rows)
    length = median(sum(len(s.text) for s in row) for row in rows)
    return filled >= MIN_FILLED * len(rows) and length >= MIN_CHARACTERS


def _lines(segments: list[Segment]) -> list[Line]:
    """Lines from the top down. Raised and lowered small characters belong to the line that they touch."""
    size = median(s.size for s in segments)
    small = [s for s in segments if s.size < 0.8 * size]
    rows = rows_of([s for s in segments if s.size >= 0.8 * size])
    loose = []
    for s in small:
        row = next((row for row in rows if _touches(s, row)), None)
        if row is None:
            loose.append(s)
        else:
            row.append(s)
    rows += rows_of(loose)
    lines = [_line(sorted(row, key=lambda s: s.x0)) for row in rows]
    return sorted(lines, key=lambda line: -line.y)


def _touches(small: Segment, row: list[Segment]) -> bool:
    return any(abs(small.y - s.y) < 0.05 * s.size or _is_next_to(small, s) for s in row)


def _is_next_to(small: Segment, s: Segment) -> bool:
    """Whether a small segment is raised or lowered at the edge of another."""
    near = s.x0 - 0.5 * s.size < small.x1 and small.x0 < s.x1 + 0.5 * s.size
    return near and -0.35 * s.size < small.y - s.y < 0.65 * s.size


def _line(row: list[Segment]) -> Line:
    parts = [row[0].text]
    for before, after in pairwise(row):
        gap = after.x0 - before.x1
        parts.append(" " if gap > 0.12 * min(before.size, after.size) else "")
        parts.append(after.text)
    main = max(row, key=lambda s: len(s.text))
    return Line("".join(parts), row[0].x0, max(s.x1 for s in row), main.y, main.size)
