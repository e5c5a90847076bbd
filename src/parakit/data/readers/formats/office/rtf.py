"""Rich Text Format (.rtf), version 1.9.1: text as Markdown.

Headings (by style or outline level), lists, tables and footnotes become Markdown. Pictures, objects, running heads, index
entries, hidden and deleted text are left out. Bytes are decoded with the code page of the file or of the font. Memory: one
block, one table, the footnotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.office.markdown import markdown_table
from parakit.data.readers.formats.whole import whole_text
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, open_input

BLOCK = 2**20
MAX_DEPTH = 5_000
MAX_TABLE_ROWS = 10_000
_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n\0]+|([^\\{}\r\n\0]+)",
    re.DOTALL,
)
_CHARACTERS = {
    "tab": "\t", "line": "\n", "lbr": "\n", "emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“",
    "rdblquote": "”", "bullet": "•", "emspace": " ", "enspace": " ", "qmspace": " ", "zwj": "\u200d", "zwnj": "\u200c",
}  # fmt: skip
_SYMBOLS = {b"\\": "\\", b"{": "{", b"}": "}", b"~": "\u00a0", b"_": "-", b"-": "", b"\n": "\n", b"\r": "\n"}
_SKIPPED = {
    "colortbl", "info", "pict", "objdata", "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr",
    "footerf", "fldinst", "nonesttables", "xe", "tc", "rxe", "annotation", "ftnsep", "ftnsepc", "ftncn", "aftnsep",
    "aftnsepc", "aftncn", "filetbl", "revtbl", "listtable", "listoverridetable", "rsidtbl", "generator", "template", "comment",
    "themedata", "datastore", "latentstyles", "private", "sp", "panose", "falt",
}  # fmt: skip
_SHOWN_ALTHOUGH_OPTIONAL = {"shpinst", "shptxt", "listtext", "pntext", "footnote", "nesttableprops"}
_CODE_PAGES = {  # of \fcharset
    77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "cp950", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250", 255: "cp437",
}  # fmt: skip


@dataclass
class _Group:
    """What a group of braces has set."""

    target: str = "text"
    """text, skip, fonts, styles, marker (of a list's item) or note."""
    font: int = -1
    n_fallback: int = 1
    hidden: bool = False


@dataclass
class _Paragraph:
    in_table: bool = False
    style: int = 0
    outline: int | None = None
    marker: str = ""


@dataclass
class _Converter:
    code_page: str = "cp1252"
    group: _Group = field(default_factory=_Group)
    stack: list[_Group] = field(default_factory=list)
    paragraph: _Paragraph = field(default_factory=_Paragraph)
    texts: dict[str, list[str]] = field(
        default_factory=lambda: {"text": [], "marker": [], "note": [], "styles": []}
    )
    raw: bytearray = field(default_factory=bytearray)
    skip: int = 0
    optional: bool = False
    fonts: dict[int, str] = field(default_factory=dict)
    headings: dict[int, int] = field(default_factory=dict)
    rows: list[list[str]] = field(default_factory=list)
    row: list[str] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    was_item: bool = False

    def blocks(self, stream: IO[bytes]) -> Iterator[str]:
        for match in _tokens(stream):
            word, number, code, symbol, brace, text = match.groups()
            if code is not None or text is not None:
                self._add_bytes(bytes([int(code, 16)]) if code else text)
                continue
            if word is not None:
                yield from self._word(word.decode().lower(), number)
            elif symbol == b"*":
                self.optional = True
            elif symbol is not None and symbol in _SYMBOLS:
                if self.skip:
                    self.skip -= 1
                else:
                    self._add(_SYMBOLS[symbol])
            elif brace == b"{":
                self._flush_bytes()
                if len(self.stack) >= MAX_DEPTH:
                    raise UnreadableFileError("damaged RTF", f"more than {MAX_DEPTH:,} groups in each other")
                self.stack.append(self.group)
                self.group, self.skip = replace(self.group), 0
            elif brace == b"}" and self.stack:
                self._close()
        if self.stack:
            raise UnreadableFileError("damaged RTF", "it ends in the middle")
        yield from self._end_paragraph()
        yield from self._end_table()
        for note in self.notes:
            yield note + "\n\n"

    def _word(self, word: str, raw_number: bytes | None) -> Iterator[str]:
        number = int(raw_number) if raw_number is not None else None
        if word == "u" and number is not None:
            if self.skip:
                self.skip -= 1
            self._add(chr(number & 0xFFFF))
            self.skip = self.group.n_fallback
            return
        if self.skip and word in _CHARACTERS:
            self.skip -= 1
            return
        self._flush_bytes()
        optional, self.optional = self.optional, False
        if word in _SKIPPED or (optional and word not in _SHOWN_ALTHOUGH_OPTIONAL):
            self.group.target = "skip"
        elif word in ("fonttbl", "stylesheet"):
            self.group.target = "fonts" if word == "fonttbl" else "styles"
        elif word in ("listtext", "pntext") and self.group.target == "text":
            self.group.target = "marker"
        elif word == "footnote" and self.group.target == "text":
            self._add(f"[^{len(self.notes) + 1}]")
            self.group.target = "note"
        elif word in _CHARACTERS:
            self._add(_CHARACTERS[word])
        elif word in ("par", "sect", "page", "cell", "nestcell", "row"):
            yield from self._break(word)
        else:
            self._set(word, number)

    def _set(self, word: str, number: int | None) -> None:
        """A property of the file, the group or the paragraph."""
        if word == "uc":
            self.group.n_fallback = min(max(number or 0, 0), 16)
        elif word == "f":
            self.group.font = -1 if number is None else number
        elif word == "fcharset" and self.group.target == "fonts" and number in _CODE_PAGES:
            self.fonts[self.group.font] = _CODE_PAGES[number]
        elif word in ("v", "deleted"):
            self.group.hidden = number != 0
        elif word == "plain":
            self.group.hidden, self.group.font = False, -1
        elif word in ("mac", "pc", "pca"):
            self.code_page = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}[word]
        elif word == "ansicpg" and number:
            self.code_page = {65001: "utf-8", 10000: "mac_roman"}.get(number, f"cp{number}")
        elif word == "shptxt" and self.group.target == "skip":
            self.group.target = "text"
        elif word == "pard":
            self.paragraph = _Paragraph(marker=self.paragraph.marker)
        elif word == "intbl":
            self.paragraph.in_table = True
        elif word == "s":
            self.paragraph.style = number or 0
        elif word == "outlinelevel" and self.group.target == "text":
            self.paragraph.outline = number

    def _close(self) -> None:
        self._flush_bytes()
        closed, self.group = self.group, self.stack.pop()
        self.skip, self.optional = 0, False
        if closed.target == "styles":
            name = "".join(self.texts["styles"]).strip(" ;").lower()
            self.texts["styles"].clear()
            if match := re.match(r"heading ([1-9])\b", name):
                self.headings[self.paragraph.style] = int(match[1])
            elif name == "title":
                self.headings[self.paragraph.style] = 1
            self.paragraph.style = 0
        elif closed.target == "marker" != self.group.target:
            marker = "".join(self.texts["marker"]).strip()
            self.texts["marker"].clear()
            self.paragraph.marker = f"{marker[:-1]}. " if re.match(r"\w{1,8}[.)]$", marker) else "- "
        elif closed.target == "note" != self.group.target:
            text = " ".join(self._take("note").split())
            self.notes.append(f"[^{len(self.notes) + 1}]: {text}")

    def _break(self, word: str) -> Iterator[str]:
        if self.group.target == "note":
            self._add(" ")
        elif self.group.target == "text" and (not self.group.hidden or word == "row"):
            if word == "nestcell":
                self._add("\t")
            elif word in ("cell", "row"):
                yield from self._end_cell(word)
            elif self.paragraph.in_table:
                self.cell.append(self._take("text"))
            else:
                yield from self._end_paragraph()

    def _end_cell(self, word: str) -> Iterator[str]:
        if word == "cell":
            self.row.append("\n\n".join(filter(None, map(str.strip, [*self.cell, self._take("text")]))))
            self.cell = []
            return
        if self.row:
            self.rows.append(self.row)
        self.row = []
        if len(self.rows) >= MAX_TABLE_ROWS:
            yield from self._end_table()

    def _end_paragraph(self) -> Iterator[str]:
        text = self._take("text").strip(" \n")
        marker, self.paragraph.marker = self.paragraph.marker, ""
        if not text:
            return
        yield from self._end_table()
        level = self.headings.get(self.paragraph.style)
        if self.paragraph.outline is not None and 0 <= self.paragraph.outline < 9:
            level = self.paragraph.outline + 1
        if self.was_item and not marker:
            yield "\n"
        self.was_item = bool(marker)
        if marker:
            yield f"{marker}{text}\n"
        elif level:
            yield f"{'#' * min(level, 6)} {' '.join(text.split())}\n\n"
        else:
            yield text + "\n\n"

    def _end_table(self) -> Iterator[str]:
        if self.row:
            self.rows.append(self.row)
            self.row = []
        text = markdown_table(self.rows)
        self.rows = []
        if text:
            if self.was_item:
                yield "\n"
            self.was_item = False
            yield text + "\n\n"

    def _add_bytes(self, data: bytes) -> None:
        n_skipped = min(self.skip, len(data))
        self.skip -= n_skipped
        if self.group.target not in ("skip", "fonts") and not self.group.hidden:
            self.raw += data[n_skipped:]

    def _flush_bytes(self) -> None:
        if not self.raw:
            return
        name = self.fonts.get(self.group.font, self.code_page)
        try:
            text = self.raw.decode(name, "replace")
        except LookupError:
            text = self.raw.decode("cp1252", "replace")
        self.raw.clear()
        self._add(text)

    def _add(self, text: str) -> None:
        self._flush_bytes()
        if self.group.target in self.texts and not self.group.hidden:
            self.texts[self.group.target].append(text)

    def _take(self, target: str) -> str:
        self._flush_bytes()
        text = "".join(self.texts[target])
        self.texts[target].clear()
        if any(
            "\ud800" <= character <= "\udfff" for character in text
        ):  # characters beyond 16 bits come in two words
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of a document, whole."""
    with open_input(file, config) as stream:
        yield from whole_text(rtf_blocks(stream), file.source)


def rtf_blocks(stream: IO[bytes]) -> Iterator[str]:
    """The blocks of a document, each with the blank line after it. `UnreadableFileError` for damage."""
    if not stream.read(5).startswith(b"{\\rtf"):
        raise UnreadableFileError("damaged RTF", "it does not begin with {\\rtf")
    stream.seek(0)
    yield from _Converter().blocks(stream)


def _tokens(stream: IO[bytes]) -> Iterator[re.Match[bytes]]:
    """The tokens of a stream; the bytes of `\\bin` are passed over."""
    buffer, position, ended = b"", 0, False
    while True:
        if len(buffer) - position < 128 and not ended:
            block = stream.read(BLOCK)
            ended = not block
            buffer, position = buffer[position:] + block, 0
        match = _TOKEN.match(buffer, position)
        if match is None:
            if position >= len(buffer) and ended:
                return
            if ended:
                raise UnreadableFileError("damaged RTF", "it ends in the middle")
            continue
        position = match.end()
        if match[1] == b"bin":
            n = max(0, int(match[2] or 0))
            n_held = min(n, len(buffer) - position)
            position += n_held
            for left in range(n - n_held, 0, -BLOCK):
                if not stream.read(min(left, BLOCK)):
                    break
        else:
            yield match
