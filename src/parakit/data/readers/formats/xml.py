"""XML of any schema: the text of its elements, streamed.

An element's text is a block of its own, unless it is inside of running text, as a word in bold is. Attributes, comments and
processing instructions are left out. Entities that a document declares are refused, so that none expands (billion laughs)
and none reads another file; nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.parsers import expat

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.declared_encoding import with_declared_encoding
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, open_text

MAX_DEPTH = 1_000
_BLOCK = 2**16
_SPACE = re.compile(r"\s+")


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of the document."""
    with with_declared_encoding(file, config) as config, open_text(file, config, report) as stream:
        text, begun = _ElementText(), False
        parser = safe_parser()
        parser.StartElementHandler, parser.EndElementHandler = text.start, text.end
        parser.CharacterDataHandler = text.data
        while True:
            block = stream.read(_BLOCK)
            damage = _parse(parser, block)
            if made := text.take():
                yield TextPart(made if begun else made.lstrip(), file.source)
                begun = True
            if damage:
                raise UnreadableFileError("damaged XML", damage, "get a fresh copy of the file")
            if not block:
                return


def safe_parser() -> expat.XMLParserType:
    """A parser of UTF-8 that refuses declared entities and knows no others than XML's own five."""
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.EntityDeclHandler = _refuse_entity
    return parser


def start_tags(document: bytes) -> list[tuple[str, dict[str, str]]]:
    """Every element's name (without a prefix) and attributes, in order; `UnreadableFileError` for damaged XML."""
    found: list[tuple[str, dict[str, str]]] = []
    parser = safe_parser()
    parser.StartElementHandler = lambda name, values: found.append((name.rpartition(":")[2], values))
    if damage := _parse(parser, document) or _parse(parser, b""):
        raise UnreadableFileError("damaged XML", damage, "get a fresh copy of the file")
    return found


def _parse(parser: expat.XMLParserType, block: bytes) -> str:
    """Parse a block, the last one where it is empty; returns what is wrong."""
    try:
        parser.Parse(block, not block)
    except expat.ExpatError as error:
        return str(error)
    return ""


def _refuse_entity(name: str, *_: object) -> None:
    raise UnreadableFileError(
        "declares entities", f"&{name[:60]};", "expand them with a program that you trust"
    )


class _ElementText:
    """Text as it comes out of the parser's events."""

    def __init__(self) -> None:
        self._made: list[str] = []
        self._has_text = [False]  # for each open element whether there was text in it
        self._breaks = False  # whether a block has ended since the last text
        self._space = False
        self._after_end = False  # whether nothing but space came since the last end of an element

    def start(self, _: str, __: dict[str, str]) -> None:
        if len(self._has_text) > MAX_DEPTH:
            raise UnreadableFileError("damaged XML", f"nested over {MAX_DEPTH} deep", "split the file")
        self._breaks |= not self._has_text[-1]
        self._has_text.append(False)
        self._after_end = False

    def end(self, _: str) -> None:
        self._has_text.pop()
        self._breaks |= not self._has_text[-1]
        self._after_end = True

    def data(self, text: str) -> None:
        words = _SPACE.sub(" ", text)
        if words == " ":
            self._space = True
            return
        if self._breaks and not self._after_end:
            self._made.append("\n")
        elif self._space or words[0] == " ":
            self._made.append(" ")
        self._breaks, self._after_end, self._space = False, False, words[-1] == " "
        self._made.append(words.strip(" "))
        self._has_text[-1] = True

    def take(self) -> str:
        made, self._made = "".join(self._made), []
        return made
