"""Word documents (.docx, .docm): text as Markdown from Office Open XML (ECMA-376 part 1, section 17).

Headings, lists, tables and footnotes become Markdown; other formatting goes. Tracked changes are read as accepted, hidden
text, comments, running heads and field codes are left out, and macros are never looked at. Memory: one paragraph or table,
the styles and the footnotes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.office.markdown import markdown_table, spaced_blocks
from parakit.data.readers.formats.office.word_styles import Numbering, Style, read_numbering, read_styles
from parakit.data.readers.formats.office.xml_events import Event, Package, inside, open_package, skip_element
from parakit.data.readers.formats.whole import whole_text
from parakit.data.readers.input_file import InputFile

_SKIPPED = {"del", "moveFrom", "Fallback", "instrText", "delText", "delInstrText", "rPrChange", "pPrChange", "sdtPr",
            "sectPr", "tblPr", "tblGrid", "trPr", "fldData", "rt"}  # fmt: skip
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of a document, whole."""
    with open_package(file, config) as package:
        yield from whole_text(docx_blocks(package), file.source)


def docx_blocks(package: Package) -> Iterator[str]:
    """The blocks of a document, each with the blank line after it. `UnreadableFileError` for damage."""
    part = package.related("", "officeDocument") or "word/document.xml"
    styles = read_styles(package, package.related(part, "styles"))
    numbering = read_numbering(package, package.related(part, "numbering"))
    yield from _Body(styles, numbering).blocks(package.events(part))
    for kind, prefix in (("footnotes", ""), ("endnotes", "e")):
        if notes := package.related(part, kind):
            yield from _notes(package.events(notes), prefix, styles, numbering)


@dataclass
class _Paragraph:
    """A paragraph that is being read."""

    parts: list[str] = field(default_factory=list)
    style: str = ""
    level: int | None = None
    """Of its own numbering; its style may have another."""
    number_id: str = ""
    outline: int | None = None
    joins_next: bool = False
    """Its mark was deleted in a tracked change."""
    hidden: bool = False


@dataclass
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    span: int = 1
    continues: bool = False


@dataclass
class _Body:
    """Walks a part with paragraphs and tables."""

    styles: dict[str, Style]
    numbering: Numbering

    def blocks(self, events: Iterator[Event]) -> Iterator[str]:
        """Blocks of Markdown; items of one list follow each other without a blank line."""
        yield from spaced_blocks(self._walk(events))

    def _walk(self, events: Iterator[Event]) -> Iterator[tuple[str, bool]]:
        paragraphs: list[_Paragraph] = []  # more than one inside a text box
        tables: list[_Table] = []
        carried: list[str] = []
        for kind, name, attributes in events:
            if kind == "start":
                if name in _SKIPPED:
                    skip_element(events)
                elif name == "p":
                    paragraphs.append(_Paragraph(parts=carried))
                    carried = []
                elif name == "pPr" and paragraphs:
                    _read_properties(events, paragraphs[-1])
                elif name == "r" and paragraphs:
                    paragraphs[-1].hidden = False
                elif name == "rPr":
                    if _is_hidden(events) and paragraphs:
                        paragraphs[-1].hidden = True
                elif name == "t":
                    _add_text(events, paragraphs)
                elif name == "tbl":
                    tables.append(_Table())
                elif tables and name in ("tr", "tc", "tcPr"):
                    _open_cell(name, tables[-1], events)
                elif paragraphs:
                    _add_mark(name, attributes, paragraphs[-1])
            elif kind == "end":
                if name == "p" and paragraphs:
                    paragraph = paragraphs.pop()
                    if paragraph.joins_next:
                        carried = paragraph.parts
                    elif tables:
                        tables[-1].cell.append("".join(paragraph.parts).strip())
                    elif block := self._markdown(paragraph):
                        yield block
                elif name == "tc" and tables:
                    _close_cell(tables[-1])
                elif name == "tbl" and tables:
                    text = markdown_table(tables.pop().rows)
                    if tables:
                        tables[-1].cell.append(text)
                    elif text:
                        yield text, False
        if carried:
            yield "".join(carried), False

    def _markdown(self, paragraph: _Paragraph) -> tuple[str, bool] | None:
        text = "".join(paragraph.parts).strip()
        if not text:
            return None
        style = self.styles.get(paragraph.style, Style())
        outline = style.outline if paragraph.outline is None else paragraph.outline
        if outline is not None and outline < 9:
            return f"{'#' * min(outline + 1, 6)} {' '.join(text.split())}", False
        number_id = paragraph.number_id or style.number_id
        if number_id and number_id != "0":
            level = (style.level or 0) if paragraph.level is None else paragraph.level
            return self.numbering.item(number_id, level) + text.replace("\n", " "), True
        return text, False


def _read_properties(events: Iterator[Event], paragraph: _Paragraph) -> None:
    """Read a `w:pPr` to its end."""
    properties = inside(events)
    for kind, name, attributes in properties:
        if kind != "start":
            continue
        value = attributes.get("val", "")
        if name == "pStyle":
            paragraph.style = value
        elif name == "numId":
            paragraph.number_id = value
        elif name == "ilvl":
            paragraph.level = _level(value)
        elif name == "outlineLvl":
            paragraph.outline = _level(value)
        elif name in ("del", "moveFrom"):
            paragraph.joins_next = True
        elif name == "pPrChange":
            skip_element(properties)


def _is_hidden(events: Iterator[Event]) -> bool:
    """Read a `w:rPr` to its end; whether its run is hidden."""
    hidden = False
    for kind, name, attributes in inside(events):
        if kind == "start" and name == "vanish":
            hidden = attributes.get("val", "true") not in ("0", "false", "off")
    return hidden


def _add_text(events: Iterator[Event], paragraphs: list[_Paragraph]) -> None:
    for kind, name, _ in events:
        if kind == "end":
            return
        if kind == "text" and paragraphs and not paragraphs[-1].hidden:
            paragraphs[-1].parts.append(name)


def _add_mark(name: str, attributes: dict[str, str], paragraph: _Paragraph) -> None:
    """Add what stands for a character: a tab, a line break, a symbol, a reference to a note."""
    if paragraph.hidden:
        return
    if name in _MARKS:
        paragraph.parts.append(_MARKS[name])
    elif name == "sym":
        paragraph.parts.append(_symbol(attributes.get("char", "")))
    elif name in ("footnoteReference", "endnoteReference"):
        prefix = "e" if name[0] == "e" else ""
        paragraph.parts.append(f"[^{prefix}{attributes.get('id', '')}]")


def _symbol(code: str) -> str:
    """The character of a `w:sym`; one of a symbol font's private area is a bullet or an ornament, and left out."""
    try:
        character = chr(int(code, 16))
    except (ValueError, OverflowError):
        return ""
    return "" if "\ud800" <= character <= "\uf8ff" else character


def _open_cell(name: str, table: _Table, events: Iterator[Event]) -> None:
    if name == "tr":
        table.rows.append([])
    elif name == "tc":
        table.cell, table.span, table.continues = [], 1, False
    else:
        for kind, inner, attributes in inside(events):
            if kind == "start" and inner == "gridSpan":
                table.span = min(_level(attributes.get("val", "")) or 1, 64)
            elif kind == "start" and inner == "vMerge":
                table.continues = attributes.get("val") != "restart"


def _close_cell(table: _Table) -> None:
    text = "" if table.continues else "\n\n".join(filter(None, table.cell))
    if not table.rows:
        table.rows.append([])
    table.rows[-1] += [text, *[""] * (table.span - 1)]
    table.cell = []


def _notes(
    events: Iterator[Event], prefix: str, styles: dict[str, Style], numbering: Numbering
) -> Iterator[str]:
    """Footnotes or endnotes as `[^1]: text`; separators have no number above 0, or a type."""
    for kind, name, attributes in events:
        if kind != "start" or name not in ("footnote", "endnote"):
            continue
        text = " ".join(" ".join(_Body(styles, numbering).blocks(inside(events))).split())
        if text and attributes.get("type", "normal") == "normal":
            yield f"[^{prefix}{attributes.get('id', '')}]: {text}\n\n"


def _level(value: str) -> int | None:
    return int(value) if value.isdecimal() and len(value) < 4 else None
