"""Presentations (.pptx, .ppsx, .pptm): slides in their order, with their tables, diagrams and notes (ECMA-376 part 1, 19).

A slide's title becomes a heading, the paragraphs of its body a list, each other box a paragraph. Masters, layouts, charts'
numbers and the fields of date and slide number are left out. Memory: one slide.
"""

from __future__ import annotations

from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.office.markdown import markdown_table
from parakit.data.readers.formats.office.xml_events import (
    Event,
    Package,
    element_text,
    inside,
    open_package,
    skip_element,
)
from parakit.data.readers.formats.whole import whole_text
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError

_LEFT_OUT = {"dt", "sldNum", "ftr", "hdr", "sldImg"}  # placeholders of date, number, foot, head and picture


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of a document, whole."""
    with open_package(file, config) as package:
        yield from whole_text(pptx_blocks(package), file.source)


def pptx_blocks(package: Package) -> Iterator[str]:
    """The blocks of a presentation, each with the blank line after it."""
    main = package.related("", "officeDocument") or "ppt/presentation.xml"
    targets = {ident: part for ident, kind, part in package.relations(main) if kind == "slide"}
    order = [
        targets[ident]
        for event in package.events(main)
        if event.kind == "start"
        and event.name == "sldId"
        and (ident := event.attributes.get("r:id", "")) in targets
    ]
    for part in order:
        if part not in package.names:
            raise UnreadableFileError("damaged zip", f"it has no {part}")
        yield from _slide(package.events(part))
        for _, kind, related in package.relations(part):
            if related not in package.names:
                continue
            if kind == "diagramData":
                yield from (f"- {text}\n" for text in _paragraphs(package.events(related)))
                yield "\n"
            elif kind == "notesSlide":
                notes = "".join(_slide(package.events(related))).strip()
                if notes:
                    yield f"Notes: {notes}\n\n"


def _slide(events: Iterator[Event]) -> Iterator[str]:
    for kind, name, _ in events:
        if kind != "start":
            continue
        if name in ("sp", "cxnSp"):
            yield from _shape(inside(events))
        elif name == "tbl":
            if text := markdown_table(list(_rows(inside(events)))):
                yield text + "\n\n"
        elif name == "Fallback":
            skip_element(events)


def _shape(events: Iterator[Event]) -> Iterator[str]:
    placeholder = None
    for kind, name, attributes in events:
        if kind != "start":
            continue
        if name == "ph":
            placeholder = attributes.get("type", "obj")
        elif name == "txBody":
            paragraphs = list(_levels(inside(events)))
            if placeholder in _LEFT_OUT or not paragraphs:
                continue
            if placeholder in ("title", "ctrTitle"):
                yield f"## {' '.join(' '.join(text for _, text in paragraphs).split())}\n\n"
            elif placeholder in ("body", "obj") and len(paragraphs) > 1:
                yield "".join(f"{'    ' * level}- {text}\n" for level, text in paragraphs) + "\n"
            else:
                yield "\n".join(text for _, text in paragraphs) + "\n\n"


def _levels(events: Iterator[Event]) -> Iterator[tuple[int, str]]:
    """(list level, text) of each paragraph with text."""
    for kind, name, _ in events:
        if kind != "start" or name != "p":
            continue
        parts: list[str] = []
        level = 0
        paragraph = inside(events)
        for inner, tag, attributes in paragraph:
            if inner != "start":
                continue
            if tag == "pPr":
                value = attributes.get("lvl", "0")
                level = int(value) if value in "012345678" and value else 0
            elif tag == "t":
                parts.append(element_text(paragraph))
            elif tag == "br":
                parts.append(" ")
            elif tag == "tab":
                parts.append("\t")
        if text := "".join(parts).replace("\v", " ").strip():
            yield level, text


def _paragraphs(events: Iterator[Event]) -> Iterator[str]:
    return (text for _, text in _levels(events))


def _rows(events: Iterator[Event]) -> Iterator[list[str]]:
    for kind, name, _ in events:
        if kind != "start" or name != "tr":
            continue
        row = inside(events)
        yield [
            " ".join(_paragraphs(inside(row))) for inner, tag, _ in row if inner == "start" and tag == "tc"
        ]
