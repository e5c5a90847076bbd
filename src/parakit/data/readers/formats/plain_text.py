"""Plain text, Markdown and source code, in any encoding: the text is the file."""

from __future__ import annotations

from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import decode_blocks, iter_line_blocks, open_text


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text, in blocks of whole lines."""
    with open_text(file, config, report) as stream:
        for block in decode_blocks(iter_line_blocks(stream, config.max_line_bytes, report)):
            yield TextPart(block, file.source)
