"""Messages in files of their own (.eml), and the pieces of any message: its text and its attachments."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import Members, TextPart
from parakit.data.readers.formats.mail.message import mail_text
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, open_input

MAX_MESSAGE = 2**26


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart | InputFile]:
    """The text of a message, and its attachments."""
    with open_input(file, config) as stream:
        data = stream.read(MAX_MESSAGE + 1)
    if len(data) > MAX_MESSAGE:
        raise UnreadableFileError(
            "too long", f"over {MAX_MESSAGE // 2**20} MiB", "save its attachments as files"
        )
    yield from message_pieces(data, file.source, file, config, report)


def message_pieces(
    data: bytes, source: str, file: InputFile, config: TextConfig, report: ReadReport
) -> Iterator[TextPart | InputFile]:
    """The text of the message `data`, then its attachments, read as members of `file`."""
    mail = mail_text(data, html_text, keep_quotes=config.email_quotes == "keep")
    report.quoted_lines += mail.n_quoted
    report.signature_lines += mail.n_signature
    yield TextPart(mail.text, source)
    with Members(file, config, report) as members:
        for name, content in mail.attachments:
            if member := members.add(name.replace("/", "_"), io.BytesIO(content)):
                yield member


def html_text(page: str) -> str:
    """The text of a message that is only HTML."""
    from parakit.data.readers.formats.html import all_text, strip_tags

    return all_text(page) if find_spec("resiliparse") else "".join(strip_tags([page]))
