"""Paragraphs from the lines of a document, across columns and pages, with hyphenated words joined.

A paragraph ends at a wider gap, a change of size or an indented line; and where the next line's first word would have had
room on the line, since who sets a text fills its lines. What ends for that last reason alone, without the end of a sentence,
ends a line only: verse, addresses, lists. Footnotes wait until the paragraph above them has ended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from parakit.data.page_marks import MARK, page_mark
from parakit.data.readers.formats.pdf.layout import Line

GAP = 1.3  # times the usual distance of two lines
SAME_SIZE = 0.12
INDENT = 0.5  # of the characters' height
MIN_GROUP = 3  # lines that tell a block's right edge
SMALL = 0.92  # of the body's size: a footnote
MAX_WORDS = 500_000  # of the vocabulary that hyphenation looks into
_ENDS_SENTENCE = re.compile(r"[.!?:;…][\"'”’»)\]]*(?:\[?\d{1,3}\]?)?$")
_BULLET = re.compile(r"[•▪◦‣●○■□–\uf0b7\uf0a7]\s+(?=\S)|[•▪◦‣●■\uf0b7\uf0a7](?=\w)")
_MARKER = re.compile(r"(?:[•▪◦‣●○■□–\uf0b7\uf0a7]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]|\[\d{1,3}\])\s*\S")
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_HYPHENS = "-\u00ad\u2010"


@dataclass
class _Paragraph:
    lines: list[Line] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)
    """What follows each line but the last: "" joins it with the next, or a line break."""
    indented: bool = False
    full: bool = False
    """Its last line leaves no room for another word."""


def document_text(columns: Sequence[Sequence[Line]]) -> Iterator[str]:
    """The paragraphs of a document's columns in reading order, each with the blank line after it."""
    lines = [line for column in columns for line in column]
    if not lines:
        return
    pitch = _pitches(columns)
    body = median([line.size for line in lines for _ in range(1 + len(line.text) // 20)])
    vocabulary = _vocabulary(lines)
    waiting: list[_Paragraph] = []
    current: _Paragraph | None = None
    for column in columns:
        paragraphs = _column_paragraphs(column, pitch)
        footnotes: list[_Paragraph] = []
        while len(paragraphs) > 1 and paragraphs[-1].lines[0].size < SMALL * body:
            footnotes.insert(0, paragraphs.pop())
        for paragraph in paragraphs:
            if current is not None and paragraph is paragraphs[0] and _continues(current, paragraph):
                current.breaks.append("")
                current.lines += paragraph.lines
                current.breaks += paragraph.breaks
                current.full = paragraph.full
                continue
            if current is not None:
                yield _text(current, vocabulary)
                for footnote in waiting:
                    yield _text(footnote, vocabulary)
                waiting = []
            current = paragraph
        waiting += footnotes
    for rest in [current, *waiting]:
        if rest is not None:
            yield _text(rest, vocabulary)


def _pitches(columns: Sequence[Sequence[Line]]) -> dict[int, float]:
    """The usual distance of two lines by the size of their characters, in half points."""
    steps: dict[int, list[float]] = {}
    for column in columns:
        for above, below in pairwise(column):
            step = above.y - below.y
            if _same_size(above, below) and 0.5 * below.size < step < 3 * below.size:
                steps.setdefault(round(below.size * 2), []).append(step)
    return {size: _usual(found) for size, found in steps.items()}


def _usual(steps: list[float]) -> float:
    """The most frequent distance; of two lines only, or all different, the least."""
    value, n = Counter(round(step * 2) for step in steps).most_common(1)[0]
    return value / 2 if n > 1 else min(steps)


def _same_size(a: Line, b: Line) -> bool:
    return abs(a.size - b.size) <= SAME_SIZE * max(a.size, b.size)


def _column_paragraphs(column: Sequence[Line], pitch: dict[int, float]) -> list[_Paragraph]:
    paragraphs: list[_Paragraph] = []
    right = max(line.x1 for line in column)
    for group in _groups(column, pitch):
        left = min(line.x0 for line in group)
        edge = max(line.x1 for line in group) if len(group) >= MIN_GROUP else right
        indents = [line.x0 - left > INDENT * line.size for line in group]
        many_indented = sum(indents) > 0.6 * len(group)
        current = _Paragraph([group[0]], indented=indents[0] and not many_indented)
        paragraphs.append(current)
        hanging = bool(_MARKER.match(group[0].text))
        for number, (above, line) in enumerate(pairwise(group), 1):
            starts = indents[number] and not (many_indented or hanging or _are_centred(above, line))
            outdent = above.x0 - line.x0 > INDENT * line.size and (hanging or many_indented)
            bullet = bool(_BULLET.match(line.text))
            room = _has_room(above, line, edge) and not above.text.endswith(tuple(_HYPHENS))
            if starts or (room and _ENDS_SENTENCE.search(above.text) and not bullet):
                current = _Paragraph([line], indented=starts)
                paragraphs.append(current)
                hanging = bool(_MARKER.match(line.text))
            else:
                breaks = room or outdent or bullet
                current.lines.append(line)
                current.breaks.append("\n" if breaks else "")
                hanging = bool(_MARKER.match(line.text)) if breaks else hanging
        for paragraph in paragraphs:
            paragraph.full = right - paragraph.lines[-1].x1 < 3 * paragraph.lines[-1].size
    return paragraphs


def _groups(column: Sequence[Line], pitch: dict[int, float]) -> Iterator[list[Line]]:
    """Lines that follow each other at the usual distance, in one size."""
    group = [column[0]]
    for above, line in pairwise(column):
        usual = pitch.get(round(line.size * 2), 1.2 * line.size)
        if above.y - line.y > GAP * usual or not _same_size(above, line):
            yield group
            group = []
        group.append(line)
    yield group


def _are_centred(above: Line, line: Line) -> bool:
    """Whether two lines have one middle, as those of a title."""
    return abs(above.x0 + above.x1 - line.x0 - line.x1) < 0.8 * line.size


def _has_room(line: Line, following: Line, right: float) -> bool:
    """Whether the first word of the following line would have fitted on this one."""
    first = following.text.split(maxsplit=1)[0] if following.text.split() else ""
    width = (following.x1 - following.x0) / max(1, len(following.text))
    return right - line.x1 > width * (len(first) + 1) + 0.35 * line.size


def _continues(before: _Paragraph, after: _Paragraph) -> bool:
    """Whether a paragraph goes on in the next column or on the next page."""
    last, first = before.lines[-1], after.lines[0]
    if not _same_size(last, first) or after.indented or _BULLET.match(first.text):
        return False
    if last.text[-1:] in _HYPHENS or first.text[:1].islower():
        return not _ENDS_SENTENCE.search(last.text) or before.full
    return before.full and not _ENDS_SENTENCE.search(last.text)


def _vocabulary(lines: Sequence[Line]) -> Counter[str]:
    """How often each word stands inside a line, in lower case."""
    words: Counter[str] = Counter()
    for line in lines:
        if len(words) < MAX_WORDS:
            words.update(word.lower() for word in _WORD.findall(line.text)[1:-1])
    return words


def _text(paragraph: _Paragraph, vocabulary: Counter[str]) -> str:
    """The text with a mark at its beginning and where a page begins."""
    text, page = paragraph.lines[0].text, paragraph.lines[0].page
    for line, separator in zip(paragraph.lines[1:], paragraph.breaks, strict=True):
        text = f"{text}{separator}{line.text}" if separator else _joined(text, line.text, vocabulary)
        if line.page != page:
            page = line.page
            text = _marked(text, len(text) - len(line.text), page)
    text = "\n".join(_with_dash(row) for row in text.split("\n"))
    return f"{page_mark(paragraph.lines[0].page)}{text}\n\n".replace("\u00ad", "")


def _marked(text: str, begin: int, page: int) -> str:
    """The text with the mark of a page that begins at `begin`, or behind the word whose parts are on both pages."""
    if text[begin - 1 : begin].strip():
        begin = next((i for i in range(begin, len(text)) if text[i].isspace()), len(text))
    return f"{text[:begin]}{page_mark(page)}{text[begin:]}"


def _with_dash(row: str) -> str:
    """A row with a dash for its bullet, which may come behind the mark of a page."""
    mark = MARK.match(row)
    begin = mark.end() if mark else 0
    return f"{row[:begin]}- {row[bullet.end() :]}" if (bullet := _BULLET.match(row, begin)) else row


def _joined(text: str, line: str, vocabulary: Counter[str]) -> str:
    """Two lines of a paragraph as one; a hyphen at the end goes where the word is one."""
    if text[-1:] not in _HYPHENS or len(text) < 2 or not text[-2].isalnum():
        return f"{text} {line}"
    if text[-1] == "\u00ad":
        return text[:-1] + line
    if not line[:1].islower():
        return text + line
    before = re.search(r"[^\W\d_]+$", text[:-1])
    after = re.match(r"[^\W\d_]+", line)
    if before is None or after is None:
        return text + line
    whole = vocabulary[(before[0] + after[0]).lower()]
    compound = vocabulary[f"{before[0]}-{after[0]}".lower()]
    return text + line if compound > whole else text[:-1] + line
