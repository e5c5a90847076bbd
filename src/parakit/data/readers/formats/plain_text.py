"""Plain text, Markdown and source code, in any encoding: the text is the file."""

from __future__ import annotations

from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.encodings import SAMPLE
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, decode_blocks, iter_line_blocks, open_text
from parakit.data.readers.skip_reasons import is_included
from parakit.data.readers.source_code import licence_of, reason_of_code

_WAY = "include: ['NAME'] reads it"


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text, in blocks of whole lines. Code that a program wrote is left out, unless it is named or included."""
    with open_text(file, config, report) as stream:
        begun = False
        for block in decode_blocks(iter_line_blocks(stream, config.max_line_bytes, report)):
            if not begun:
                begun = True
                _check_code(file, config, block[:SAMPLE])
                if licence := licence_of(file.name, block):
                    report.count_licence(file.source, licence)
            yield TextPart(block, file.source)


def _check_code(file: InputFile, config: TextConfig, head: str) -> None:
    if file.named or is_included(file.source.partition("/")[2], config):
        return
    if reason := reason_of_code(file.source, head):
        raise UnreadableFileError(*reason, _WAY)
