"""OpenDocument files (.odt, .ods, .odp and their flat XML forms): text as Markdown (OASIS OpenDocument 1.3, part 3).

Headings, lists, tables and notes become Markdown. Text that a tracked change deleted, comments and running heads are left
out. A sheet's rows are read one by one; repeated empty rows and cells, with which a sheet is filled up, are not written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from zipfile import is_zipfile

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.office.markdown import MAX_COLUMNS, markdown_table, spaced_blocks
from parakit.data.readers.formats.office.xlsx import texts_of_sheets
from parakit.data.readers.formats.office.xml_events import (
    Event,
    element_text,
    inside,
    open_package,
    skip_element,
    xml_events,
)
from parakit.data.readers.formats.whole import whole_text
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, open_input

MAX_REPEAT = 1_000
_SKIPPED = {"tracked-changes", "annotation", "font-face-decls", "master-styles", "scripts", "meta", "settings",
            "binary-data", "forms", "ruby-text", "automatic-styles", "styles"}  # fmt: skip
_PARAGRAPHS = ("p", "h")
_SPACE = re.compile(r"[ \t\r\n]+")


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of a document or presentation, whole: a package, or one XML file (.fodt, .fodp)."""
    with _contents(file, config) as (bullets, events):
        yield from whole_text(_Body(bullets).blocks(events), file.source)


def read_rows(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered texts of the rows of a spreadsheet (.ods, .fods)."""
    with _contents(file, config) as (bullets, events):
        sheets = (
            _Body(bullets).rows(inside(events))
            for kind, name, _ in events
            if kind == "start" and name == "table"
        )
        yield from texts_of_sheets(sheets, file, config, report)


@contextmanager
def _contents(
    file: InputFile, config: TextConfig
) -> Iterator[tuple[dict[tuple[str, int], bool], Iterator[Event]]]:
    """Which list styles are bullets, and the events of the content."""
    if not is_zipfile(file.path):
        with open_input(file, config) as stream:
            bullets = _bullet_lists(xml_events(stream))
            stream.seek(0)
            yield bullets, xml_events(stream)
        return
    with open_package(file, config) as package:
        manifest = "META-INF/manifest.xml"
        if manifest in package.names and any(e.name == "encryption-data" for e in package.events(manifest)):
            raise UnreadableFileError("encrypted", "", "save it without a password")
        bullets = _bullet_lists(package.events("content.xml"))
        if "styles.xml" in package.names:
            bullets |= _bullet_lists(package.events("styles.xml"))
        yield bullets, package.events("content.xml")


def _bullet_lists(events: Iterator[Event]) -> dict[tuple[str, int], bool]:
    """Whether a list style's level is a bullet."""
    found: dict[tuple[str, int], bool] = {}
    style = ""
    for kind, name, attributes in events:
        if kind == "start" and name == "list-style":
            style = attributes.get("name", "")
        elif kind == "start" and name in ("list-level-style-bullet", "list-level-style-number"):
            level = attributes.get("level", "1")
            bullet = name.endswith("bullet") or not attributes.get("num-format")
            found[style, int(level) if level.isdecimal() else 1] = bullet
        elif kind == "start" and name == "body":
            break
    return found


@dataclass
class _List:
    style: str
    n: int = 0
    starts_item: bool = False


@dataclass
class _Body:
    bullets: dict[tuple[str, int], bool]
    lists: list[_List] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def blocks(self, events: Iterator[Event]) -> Iterator[str]:
        """Blocks with the blank line after each; items of a list follow each other without one."""
        yield from spaced_blocks(self._walk(events))
        for note in self.notes:
            yield note + "\n\n"

    def _walk(self, events: Iterator[Event]) -> Iterator[tuple[str, bool]]:
        for kind, name, attributes in events:
            if kind == "end":
                if name == "list" and self.lists:
                    self.lists.pop()
                continue
            if kind != "start":
                continue
            if name in _SKIPPED:
                skip_element(events)
            elif name == "table":
                if text := markdown_table(list(self.rows(inside(events)))):
                    yield text, False
            elif name == "list":
                style = attributes.get("style-name") or (self.lists[-1].style if self.lists else "")
                self.lists.append(_List(style))
            elif name == "list-item" and self.lists:
                self.lists[-1].n += 1
                self.lists[-1].starts_item = True
            elif name == "notes":
                yield from self._speaker_notes(inside(events))
            elif name in _PARAGRAPHS:
                yield from self._paragraph(name, attributes, events)

    def _paragraph(
        self, name: str, attributes: dict[str, str], events: Iterator[Event]
    ) -> Iterator[tuple[str, bool]]:
        boxes: list[str] = []
        text = self._text(inside(events), boxes).strip(" \n")
        if text and name == "h":
            level = attributes.get("outline-level", "1")
            n = int(level[:2]) if level.isdecimal() else 1
            yield f"{'#' * max(1, min(n, 6))} {' '.join(text.split())}", False
        elif text and attributes.get("style-name") == "Title":
            yield f"# {' '.join(text.split())}", False
        elif text and self.lists:
            yield self._item() + text.replace("\n", " "), True
        elif text:
            yield text, False
        for box in boxes:
            yield box, False

    def _item(self) -> str:
        level, current = len(self.lists), self.lists[-1]
        indent = "    " * (level - 1)
        if not current.starts_item:
            return indent + "    "
        current.starts_item = False
        return indent + ("- " if self.bullets.get((current.style, level), True) else f"{current.n}. ")

    def _text(self, events: Iterator[Event], boxes: list[str]) -> str:
        """A paragraph's text. White space collapses as the standard (part 3, 6.1.2) says; text boxes go to `boxes`."""
        parts: list[str] = []
        for kind, name, attributes in events:
            if kind == "text":
                collapsed = _SPACE.sub(" ", name)
                after_space = not parts or parts[-1].endswith((" ", "\n"))
                parts.append(collapsed.lstrip(" ") if after_space else collapsed)
            elif kind != "start":
                continue
            elif name in _SKIPPED:
                skip_element(events)
            elif name == "s":
                n = attributes.get("c", "1")
                parts.append(" " * min(int(n) if n.isdecimal() and len(n) < 9 else 1, MAX_REPEAT))
            elif name in ("tab", "line-break"):
                parts.append("\t" if name == "tab" else "\n")
            elif name == "note":
                parts.append(self._note(inside(events)))
            elif name in ("text-box", "table"):
                box = _Body(self.bullets)
                boxes.append("".join(box.blocks(inside(events))).strip())
        return "".join(parts)

    def _note(self, events: Iterator[Event]) -> str:
        citation, body = "", ""
        for kind, name, _ in events:
            if kind == "start" and name == "note-citation":
                citation = element_text(events).strip()
            elif kind == "start" and name == "note-body":
                body = " ".join("".join(_Body(self.bullets).blocks(inside(events))).split())
        self.notes.append(f"[^{citation}]: {body}")
        return f"[^{citation}]"

    def _speaker_notes(self, events: Iterator[Event]) -> Iterator[tuple[str, bool]]:
        text = "".join(_Body(self.bullets).blocks(events)).strip()
        if text:
            yield f"Notes: {text}", False

    def rows(self, events: Iterator[Event]) -> Iterator[list[str]]:
        """The rows of a table, with repeated cells written out up to the last one with text."""
        row: list[str] = []
        repeat_row = 1
        for kind, name, attributes in events:
            if kind == "end" and name == "table-row":
                while row and not row[-1]:
                    row.pop()
                if row:
                    for _ in range(repeat_row):
                        yield list(row)
                row = []
            elif kind != "start":
                continue
            elif name == "table-row":
                row, repeat_row = [], _repeat(attributes, "number-rows-repeated")
            elif name in ("table-cell", "covered-table-cell"):
                boxed = "\n\n".join(text for text, _ in _Body(self.bullets)._walk(inside(events)))
                n = _repeat(attributes, "number-columns-repeated")
                n = min(n, MAX_COLUMNS - len(row))
                row += [_value(attributes, boxed)] * n
            elif name in _SKIPPED:
                skip_element(events)


def _value(attributes: dict[str, str], shown: str) -> str:
    """A cell's text: a date as ISO 8601, else as it is shown, which is the cached value of a formula."""
    if attributes.get("value-type") == "date" and attributes.get("date-value"):
        return attributes["date-value"].replace("T00:00:00", "").replace("T", " ")
    return shown or attributes.get("value", "") or attributes.get("string-value", "")


def _repeat(attributes: dict[str, str], name: str) -> int:
    value = attributes.get(name, "1")
    return max(1, min(int(value), MAX_REPEAT)) if value.isdecimal() and len(value) < 9 else 1
