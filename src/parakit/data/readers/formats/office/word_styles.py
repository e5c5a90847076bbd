"""Styles and numbering of a Word document: which paragraphs are headings, and what stands before a list's items.

ECMA-376 part 1, sections 17.7 (styles, with inheritance) and 17.9 (numbering).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from parakit.data.readers.formats.office.xml_events import Event, Package, inside

MAX_STYLES = 20_000
MAX_LEVEL = 8
_HEADING = re.compile(r"heading ([1-9])$", re.IGNORECASE)


@dataclass
class Style:
    """`outline` from 0: a heading of that level; `number_id` and `level`: of a list style."""

    outline: int | None = None
    number_id: str = ""
    level: int | None = None
    based_on: str = ""


@dataclass
class Numbering:
    """Formats by (list, level), and the counters of the lists so far."""

    abstract_of: dict[str, str] = field(default_factory=dict)
    is_bullet: dict[tuple[str, int], bool] = field(default_factory=dict)
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    counts: dict[tuple[str, int], int] = field(default_factory=dict)

    def item(self, number_id: str, level: int) -> str:
        """What stands before the next item of a list in Markdown: "- " or "3. ", indented by its level."""
        level = min(level, MAX_LEVEL)
        abstract = self.abstract_of.get(number_id, number_id)
        indent = "    " * level
        if self.is_bullet.get((abstract, level), True):
            return f"{indent}- "
        for deeper in range(level + 1, MAX_LEVEL + 1):
            self.counts.pop((number_id, deeper), None)
        key = number_id, level
        self.counts[key] = self.counts.get(key, self.starts.get((abstract, level), 1) - 1) + 1
        return f"{indent}{self.counts[key]}. "


def read_styles(package: Package, part: str | None) -> dict[str, Style]:
    """Paragraph styles by id, with what they inherit."""
    styles: dict[str, Style] = {}
    current = Style()
    for kind, name, attributes in package.events(part) if part else ():
        if kind != "start":
            continue
        value = attributes.get("val", "")
        if name == "style":
            current = Style()
            if attributes.get("type") == "paragraph" and len(styles) < MAX_STYLES:
                styles[attributes.get("styleId", "")] = current
        elif name == "name":
            if match := _HEADING.match(value):
                current.outline = int(match[1]) - 1
            elif value.lower() == "title":
                current.outline = 0
        elif name == "basedOn":
            current.based_on = value
        elif name == "outlineLvl" and value.isdecimal():
            current.outline = int(value[:2])
        elif name == "numId":
            current.number_id = value
        elif name == "ilvl" and value.isdecimal():
            current.level = int(value[:2])
    return {name: _inherited(style, styles) for name, style in styles.items()}


def _inherited(style: Style, styles: dict[str, Style]) -> Style:
    found = Style(style.outline, style.number_id, style.level)
    parent, n = style.based_on, 0
    while parent in styles and n < 20:  # a circle ends
        above = styles[parent]
        found.outline = above.outline if found.outline is None else found.outline
        found.number_id = found.number_id or above.number_id
        found.level = above.level if found.level is None else found.level
        parent, n = above.based_on, n + 1
    return found


def read_numbering(package: Package, part: str | None) -> Numbering:
    """The lists of a document."""
    numbering = Numbering()
    abstract, number_id, level = "", "", 0
    events: Iterator[Event] = package.events(part) if part else iter(())
    for kind, name, attributes in events:
        if kind != "start":
            continue
        value = attributes.get("val", "")
        if name == "abstractNum":
            abstract = attributes.get("abstractNumId", "")
        elif name == "lvl":
            level = _int(attributes.get("ilvl", ""))
        elif name == "numFmt":
            numbering.is_bullet[abstract, level] = value in ("bullet", "none")
        elif name == "start":
            numbering.starts[abstract, level] = _int(value)
        elif name == "num":
            number_id = attributes.get("numId", "")
        elif name == "abstractNumId":
            numbering.abstract_of[number_id] = value
        elif name == "lvlOverride":
            _read_override(events, numbering, number_id, _int(attributes.get("ilvl", "")))
    return numbering


def _read_override(events: Iterator[Event], numbering: Numbering, number_id: str, level: int) -> None:
    """A list that starts again: only its start is read."""
    for kind, name, attributes in inside(events):
        if kind == "start" and name == "startOverride":
            numbering.counts[number_id, level] = _int(attributes.get("val", "")) - 1


def _int(value: str) -> int:
    return int(value) if value.isdecimal() and len(value) < 9 else 0
