"""Which format a file is read as: its first bytes decide, then its name."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from parakit.data.readers.compression import DAMAGE, TITLES, open_compressed, read_head
from parakit.data.readers.detection import SNIFFED, looks_like_html, looks_like_text, sniff, sniff_compression
from parakit.data.readers.formats.mail.mailbox import is_mailbox
from parakit.data.readers.formats.registry import Format, by_beginning, by_name
from parakit.data.readers.input_file import Compression, InputFile
from parakit.data.readers.lines import UnreadableFileError
from parakit.data.readers.zip_files import zip_kind

_UNREADABLE = {
    "image": ("not text", "recognize its text with another program first"),
}


def recognize(file: InputFile) -> tuple[InputFile, Format]:
    """The file with the format and compression that its bytes show, and that format.

    Raises `UnreadableFileError` for a file that no reader here can read, or whose reader needs a library that is missing.
    """
    compression, head = _head(file)
    named = by_name()[file.format] if file.format else None
    found = _format(file, named, head)
    if missing := [library for library in found.needs if find_spec(library) is None]:
        raise UnreadableFileError(
            "needs parakit[data]", f"{', '.join(missing)} is not installed", "pip install 'parakit[data]'"
        )
    return replace(file, format=found.name, compression=compression), found


def is_compressed_twice(file: InputFile) -> bool:
    """Whether a compressed file holds a compressed file."""
    return sniff_compression(_head(file)[1]) is not None


def _head(file: InputFile) -> tuple[Compression | None, bytes]:
    """How the file is compressed, and its first bytes without that."""
    try:
        with open(file.path, "rb") as stream:
            head = stream.read(SNIFFED)
        compression = sniff_compression(head) or file.compression
        if compression is None:
            return None, head
        with open_compressed(file.path, compression) as stream:
            return compression, read_head(stream, SNIFFED)
    except DAMAGE as error:
        assert compression is not None
        raise UnreadableFileError(
            f"damaged {TITLES[compression]}", str(error), "decompress it by hand, or get a fresh copy"
        ) from None
    except OSError as error:
        raise UnreadableFileError(
            "cannot be read", error.strerror or str(error), "check its permissions"
        ) from None


def _format(file: InputFile, named: Format | None, head: bytes) -> Format:
    begins = sniff(head)
    if begins in _UNREADABLE and begins not in by_beginning():
        reason, hint = _UNREADABLE[begins]
        raise UnreadableFileError(reason, f"its bytes are those of .{begins}", hint)
    if begins is None and sniff_compression(head):
        return by_name()["text"]  # compressed twice: decompressed once, it is recognized once more
    text = by_name()["html" if looks_like_html(head) and "html" in by_name() else "text"]
    if begins is None and file.name.isalnum() and is_mailbox(head):
        return by_name()["mbox"]  # a mail program's folder: its name has no ending
    if begins is None:
        if "." not in file.name:
            return text
        misnamed = named and named.begins and b"%PDF-" not in head and head and looks_like_text(head)
        return text if named is None or misnamed else named
    if named and named.begins == begins and named.name != "zip":
        return named
    if begins == "zip":
        kind = None if file.compression else zip_kind(file.path)
        return by_name()[kind if kind in by_name() else "zip"]
    if named and named.begins is None and begins in ("parquet", "arrow") and looks_like_text(head):
        return named
    return by_beginning().get(begins) or text
