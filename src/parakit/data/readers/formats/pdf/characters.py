"""The characters of a PDF page as segments: stretches of one line without a wide gap.

PDFium gives for each character its code, the point of its baseline and its box with the font's ascent and descent. Text
that is turned is read in its own direction. Ligatures are spelled out. Runs in the child process only.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, field
from typing import Any

WIDE_GAP = 0.8  # of the characters' height: a segment ends, since a column may
JUMP = 0.25  # of the height, off the baseline: likewise
_LIGATURES = {
    0xFB00: "ff",
    0xFB01: "fi",
    0xFB02: "fl",
    0xFB03: "ffi",
    0xFB04: "ffl",
    0xFB05: "st",
    0xFB06: "st",
}
_UNMAPPED = {0, 0xFFFE, 0xFFFF, 0xFFFD, *range(0xFDD0, 0xFDF0)}
_HYPHEN_AT_END = 2  # PDFium's code for a hyphen that ends a line


@dataclass(slots=True)
class Segment:
    """`x0`, `x1`: left and right; `y`: the baseline, upwards; `size`: of the font; all in points."""

    text: str
    x0: float
    x1: float
    y: float
    size: float


@dataclass
class PageText:
    """Segments in the direction of most of the page; `turned` are the others' texts."""

    segments: list[Segment] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    n_unmapped: int = 0
    n_images: int = 0


@dataclass(slots=True)
class _Character:
    text: str
    x0: float
    x1: float
    y: float
    height: float
    index: int


def page_text(page: Any) -> PageText:
    """Read a `pypdfium2.PdfPage`."""
    import pypdfium2.raw as pdfium

    result = PageText(
        n_images=sum(1 for _ in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=2))
    )
    text_page = page.get_textpage()
    try:
        by_turn = _characters(text_page, result)
        sizes = _Sizes(text_page)
        main = max(by_turn, key=lambda turn: sum(not c.text.isspace() for c in by_turn[turn]), default=0)
        for turn, characters in by_turn.items():
            segments = _segments(characters, sizes)
            if turn == main:
                result.segments = segments
            else:
                result.turned.append(" ".join(segment.text for segment in segments))
    finally:
        text_page.close()
    return result


def _characters(text_page: Any, result: PageText) -> dict[int, list[_Character]]:
    """The characters by the direction in which they run, in degrees, each in the frame in which it runs to the right."""
    import pypdfium2.raw as pdfium

    handle = text_page.raw
    box, x, y = pdfium.FS_RECTF(), ctypes.c_double(), ctypes.c_double()
    found: dict[int, list[_Character]] = {}
    turn = 0
    for index in range(pdfium.FPDFText_CountChars(handle)):
        code = pdfium.FPDFText_GetUnicode(handle, index)
        if code in _UNMAPPED:
            result.n_unmapped += 1
            continue
        text = "-" if code == _HYPHEN_AT_END else _LIGATURES.get(code) or chr(code)
        if text.isspace():
            found.setdefault(turn, []).append(_Character(text, 0.0, 0.0, 0.0, 0.0, index))
            continue
        pdfium.FPDFText_GetLooseCharBox(handle, index, box)
        pdfium.FPDFText_GetCharOrigin(handle, index, x, y)
        turn = round(math.degrees(pdfium.FPDFText_GetCharAngle(handle, index)) / 15) * 15 % 360
        edges = box.left, box.right, box.bottom, box.top
        found.setdefault(turn, []).append(_upright(turn, text, x.value, y.value, edges, index))
    return found


class _Sizes:
    """The size of a character's font on the page: its nominal size times the scale of its text."""

    def __init__(self, text_page: Any) -> None:
        import pypdfium2.raw as pdfium

        self._handle, self._matrix, self._pdfium = text_page.raw, pdfium.FS_MATRIX(), pdfium

    def __getitem__(self, character: _Character) -> float:
        size = self._pdfium.FPDFText_GetFontSize(self._handle, character.index)
        if not self._pdfium.FPDFText_GetMatrix(self._handle, character.index, self._matrix):
            return character.height
        return size * math.hypot(self._matrix.c, self._matrix.d) or character.height


def _upright(
    turn: int, text: str, x: float, y: float, box: tuple[float, float, float, float], index: int
) -> _Character:
    left, right, bottom, top = box
    if turn == 0:
        return _Character(text, left, right, y, top - bottom, index)
    if turn == 180:
        return _Character(text, -right, -left, -y, top - bottom, index)
    if turn == 90:  # clockwise: the text runs downwards
        return _Character(text, -top, -bottom, x, right - left, index)
    if turn == 270:
        return _Character(text, bottom, top, -x, right - left, index)
    cos, sin = math.cos(math.radians(-turn)), math.sin(math.radians(-turn))
    height = max(right - left, top - bottom)
    along = x * cos + y * sin
    return _Character(text, along, along + height / 2, y * cos - x * sin, height, index)


def _segments(characters: list[_Character], sizes: _Sizes) -> list[Segment]:
    segments: list[Segment] = []
    current: Segment | None = None
    height, space = 0.0, False
    for character in characters:
        if character.text in "\r\n":
            current = None
        elif character.text.isspace():
            space = True
        else:
            if current is not None and not _continues(current, height, character):
                current = None
            if current is None:
                current = Segment(character.text, character.x0, character.x1, character.y, sizes[character])
                height = character.height
                segments.append(current)
            elif not _is_printed_twice(current, character):
                current.text += (" " if space else "") + character.text
                current.x1 = max(current.x1, character.x1)
            space = False
    return segments


def _continues(segment: Segment, height: float, character: _Character) -> bool:
    size = max(height, character.height, 1e-6)
    gap = character.x0 - segment.x1
    return (
        -0.5 * size < gap < WIDE_GAP * size
        and abs(character.y - segment.y) < JUMP * size
        and min(height, character.height) > 0.7 * size
    )


def _is_printed_twice(segment: Segment, character: _Character) -> bool:
    """Whether a character lies on an equal one, which is how some programs make bold text."""
    return segment.text[-1] == character.text and segment.x1 - character.x1 > -0.1 * character.height
