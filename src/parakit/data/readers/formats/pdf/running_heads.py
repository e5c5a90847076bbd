"""Finds running heads, feet and page numbers: rows at the edge of pages that repeat at the same place.

A row counts as one where it has the same text, or the same text around a number that grows with the page, on at least three
pages (on both of two), and nothing but such rows lies between it and the edge.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from parakit.data.readers.formats.pdf.characters import Segment

N_ROWS = 3  # at each edge that are looked at
SAME_PLACE = 4.0  # points
MIN_SHARE = 0.6  # of a text's numbers that must grow with the page
_NUMBER = re.compile(r"\d+")
_ROMAN = re.compile(r"[-–—\s]*([ivxlc]{1,7})[-–—\s]*$", re.IGNORECASE)
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


def rows_of(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments by their baselines, from the top of the page down, each row from left to right."""
    rows: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda s: -s.y):
        if rows and rows[-1][0].y - segment.y < 0.35 * max(segment.size, rows[-1][0].size):
            rows[-1].append(segment)
        else:
            rows.append([segment])
    return [sorted(row, key=lambda s: s.x0) for row in rows]


def without_running_heads(pages: Sequence[Sequence[Segment]]) -> tuple[list[list[Segment]], int]:
    """The pages' segments without running heads and feet, and the number of rows taken away."""
    pages_rows = [rows_of(segments) for segments in pages]
    n_removed = 0
    if len(pages) > 1:
        for from_end in (False, True):
            removed = _edge_rows(pages_rows, from_end)
            for page, n in removed.items():
                rows = pages_rows[page]
                pages_rows[page] = rows[: len(rows) - n] if from_end else rows[n:]
                n_removed += n
    return [[segment for row in rows for segment in row] for rows in pages_rows], n_removed


def _edge_rows(pages_rows: list[list[list[Segment]]], from_end: bool) -> dict[int, int]:
    """How many rows at one edge of each page are running heads."""
    seen: dict[str, list[tuple[int, float, list[int], str]]] = defaultdict(list)
    keys: dict[tuple[int, int], tuple[str, float]] = {}
    for page, rows in enumerate(pages_rows):
        edge = rows[::-1] if from_end else rows
        for depth, row in enumerate(edge[:N_ROWS]):
            text = " ".join(segment.text for segment in row)
            key, numbers = _pattern(text)
            seen[key].append((page, row[0].y, numbers, text))
            keys[page, depth] = key, row[0].y
    needed = 2 if len(pages_rows) == 2 else 3
    places = {key: _places(found, needed) for key, found in seen.items() if len(found) >= needed}
    removed: dict[int, int] = {}
    for page, rows in enumerate(pages_rows):
        for depth in range(min(N_ROWS, len(rows))):
            key, y = keys[page, depth]
            if not any(abs(y - place) < SAME_PLACE for place in places.get(key, ())):
                break
            removed[page] = depth + 1
    return removed


def _pattern(text: str) -> tuple[str, list[int]]:
    """A row's text with # for its numbers, and the numbers; a lone Roman number is one."""
    if match := _ROMAN.match(text):
        return "#", [_roman(match[1].lower())]
    if len(text) > 200:
        return text, []
    return _NUMBER.sub("#", text), [int(number[:9]) for number in _NUMBER.findall(text)]


def _roman(text: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in text]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def _places(found: list[tuple[int, float, list[int], str]], needed: int) -> list[float]:
    """The heights at which a pattern is a running head: enough equal texts there, or numbers that grow with the page."""
    places = []
    remaining = sorted(found, key=lambda item: item[1])
    while remaining:
        start = remaining[0][1]
        group = [item for item in remaining if item[1] - start < SAME_PLACE]
        remaining = remaining[len(group) :]
        pages = {page for page, *_ in group}
        if len(pages) < needed:
            continue
        constant = Counter(text for *_, text in group).most_common(1)[0][1] >= max(needed, 0.2 * len(group))
        n_numbers = min(len(numbers) for _, _, numbers, _ in group)
        growing = any(
            Counter(numbers[i] - page for page, _, numbers, _ in group).most_common(1)[0][1]
            >= max(needed, MIN_SHARE * len(group))
            for i in range(n_numbers)
        )
        if constant or growing:
            places.append(start + SAME_PLACE / 2)
    return places
