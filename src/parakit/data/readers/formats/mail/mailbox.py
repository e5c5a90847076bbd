"""Mailboxes: messages one after the other in one file (mbox, RFC 4155).

A message begins at a line "From " after an empty line or at the beginning. Memory: one message. A mailbox that is cut in
the middle gives its whole messages and what there is of the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.mail.eml import message_pieces
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import open_input

BLOCK_LINE = 2**20
MAX_MESSAGE = 2**26
_FROM = re.compile(rb"From \S.*\d{4}|From \S+\s")
_ESCAPED = re.compile(rb">+From ")


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart | InputFile]:
    """The messages of a mailbox, each a text of its own, and their attachments."""
    with open_input(file, config) as stream:
        for number, message in enumerate(split_mailbox(stream, MAX_MESSAGE), 1):
            source = f"{file.source}:{number}"
            if message is None:
                report.skip(source, "too long", f"over {MAX_MESSAGE // 2**20} MiB")
            else:
                yield from message_pieces(message, source, file, config, report)


def is_mailbox(sample: bytes) -> bool:
    """Whether the first bytes of a file are those of a mailbox."""
    first, _, second = sample.lstrip(b"\r\n").partition(b"\n")
    return bool(_FROM.match(first)) and bool(re.match(rb"[A-Za-z][A-Za-z0-9-]*:", second))


def split_mailbox(stream: IO[bytes], max_bytes: int) -> Iterator[bytes | None]:
    """The messages of a mailbox; None for one that is longer than `max_bytes`."""
    lines: list[bytes] = []
    n_bytes, after_empty, started, line_starts = 0, True, False, True
    while line := stream.readline(BLOCK_LINE):
        if line_starts and after_empty and _FROM.match(line):
            if started:
                yield b"".join(lines) if n_bytes <= max_bytes else None
            lines, n_bytes, started = [], 0, True
        elif started:
            n_bytes += len(line)
            if n_bytes <= max_bytes:
                lines.append(line[1:] if line_starts and _ESCAPED.match(line) else line)
            else:
                lines.clear()
        after_empty = line_starts and not line.strip(b"\r\n")
        line_starts = line.endswith(b"\n")
    if started and n_bytes:
        yield b"".join(lines) if n_bytes <= max_bytes else None
