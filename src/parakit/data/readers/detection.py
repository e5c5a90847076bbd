"""What a file is by its first bytes. Names lie more often than bytes: a `.txt` that is a PDF, a `.docx` that is a web page.

Only formats that mark their beginning are recognized here; text is separated from binary files where it is decoded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from parakit.data.readers.compression import DAMAGE, open_compressed, read_head
from parakit.data.readers.formats.registry import by_beginning, by_name, split_name
from parakit.data.readers.input_file import Compression
from parakit.data.readers.zip_files import zip_kind

SNIFFED = 2**12  # bytes that are looked at

_COMPRESSED: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"\xfd7zXZ\0", "xz"),
)
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
Beginning = Literal["zip", "pdf", "parquet", "arrow", "tar", "warc", "ole", "rtf", "image"]
_BEGINNINGS: tuple[tuple[bytes, Beginning], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # without any member
    (b"PAR1", "parquet"),
    (b"ARROW1\0\0", "arrow"),
    (b"FEA1", "arrow"),
    (b"WARC/1.", "warc"),
    (b"WARC/0.", "warc"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),  # Office before 2007, and encrypted files of later ones
    (b"{\\rtf", "rtf"),
    (b"\x89PNG\r\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
)


def sniff_compression(sample: bytes) -> Compression | None:
    """How a file that begins with these bytes is compressed."""
    if _BZIP2.match(sample):
        return "bz2"
    return next((name for mark, name in _COMPRESSED if sample.startswith(mark)), None)


def sniff(sample: bytes) -> Beginning | None:
    """What a file that begins with these (decompressed) bytes is; None for text and for what is not known."""
    if (found := next((name for mark, name in _BEGINNINGS if sample.startswith(mark)), None)) is not None:
        return found
    if sample[257:262] == b"ustar":
        return "tar"
    return "pdf" if sample[:16].lstrip().startswith(b"%PDF-") else None


def looks_like_html(sample: bytes) -> bool:
    """Whether text begins as a web page does."""
    return _HTML.match(sample.removeprefix(b"\xef\xbb\xbf")) is not None


def looks_like_text(sample: bytes) -> bool:
    """Whether a sample may be text in some encoding: nearly no byte is a control character, or it has a mark of UTF-16."""
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    n_control = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in sample)
    return n_control * 100 <= len(sample)


def format_of(path: Path, name: str) -> tuple[str | None, Compression | None]:
    """The format and the compression of a file by its name; where the name has an unknown ending, by its first bytes.

    None: it is not read. A zip file of an unknown ending is read where it is a document: most others are programs.
    """
    found, compression = split_name(name)
    if found is not None:
        return found.name, compression
    with open_compressed(path, compression) as stream:
        try:
            begins = sniff(read_head(stream, SNIFFED))
        except DAMAGE:
            begins = None
    if begins == "zip":
        kind = None if compression else zip_kind(path)
        return (kind if kind in by_name() else None), compression
    by_bytes = by_beginning().get(begins) if begins else None
    return (by_bytes.name if by_bytes else None), compression
