"""Zip files: archives, and documents that are one. The list of members is read from the end, and its size is checked before
that, so that a hostile file cannot fill memory with it.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from parakit.data.config import TextConfig
from parakit.data.readers.compression import DAMAGE
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, charge

MAX_DIRECTORY = 2**25  # bytes of the list of members: about 300,000, which take 200 MB of memory
MAX_PART = 2**26
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
ENCRYPTED = 0x1
MEMBER_DAMAGE = (zipfile.BadZipFile, NotImplementedError, OSError, *DAMAGE)
"""What reading a member raises where it is damaged or packed in an unknown way."""
_KINDS = {
    "application/epub+zip": "epub",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
}
_PARTS = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsx",
}


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive, or a document that is one; `UnreadableFileError` for one that is damaged or whose list of members is
    too long.
    """
    try:
        with open(path, "rb") as stream:
            if _directory_size(stream) > MAX_DIRECTORY:
                raise UnreadableFileError(
                    "too many members", "their list is over 32 MiB", "repack it in parts"
                )
            with zipfile.ZipFile(stream) as archive:
                yield archive
    except (zipfile.BadZipFile, NotImplementedError, struct.error, zlib.error, ValueError) as error:
        raise UnreadableFileError("damaged zip", str(error), "get a fresh copy of the file") from None


def read_part(archive: zipfile.ZipFile, name: str, file: InputFile, config: TextConfig) -> bytes:
    """The bytes of one part of a document that is a zip archive, at most 64 MiB, counted against its expansion.

    `UnreadableFileError` where it is missing, damaged, encrypted or too large.
    """
    if (info := archive.NameToInfo.get(name)) is None:
        raise UnreadableFileError("damaged zip", f"{name[:200]} is missing", "get a fresh copy of the file")
    if info.flag_bits & ENCRYPTED:
        raise UnreadableFileError("encrypted", name[:200], "remove the password first")
    try:
        with archive.open(info) as stream:
            content = stream.read(MAX_PART + 1)
    except MEMBER_DAMAGE as error:
        raise UnreadableFileError(
            "damaged zip", f"{name[:100]}: {error}", "get a fresh copy of the file"
        ) from None
    if len(content) > MAX_PART:
        raise UnreadableFileError("expands too much", f"{name[:100]} is over 64 MiB", "split the document")
    charge(file, len(content), config)
    return content


def zip_kind(path: Path) -> str | None:
    """The format of a document that is a zip archive, by what is in it; None where it is any archive."""
    try:
        with open_zip(path) as archive:
            names = archive.NameToInfo
            if (info := names.get("mimetype")) is not None and info.file_size < 100:
                return _KINDS.get(
                    archive.read(info).decode("ascii", "replace").strip().removesuffix("-template")
                )
            return next((kind for part, kind in _PARTS.items() if part in names), None)
    except (UnreadableFileError, RuntimeError, OSError, *DAMAGE):
        return None


def _directory_size(stream: IO[bytes]) -> int:
    """The size of the list of members, as the archive's end gives it; 0 where there is no end."""
    size = stream.seek(0, 2)
    start = max(0, size - 2**16 - _END.size)
    stream.seek(start)
    tail = stream.read()
    stream.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        return 0
    n_bytes = int(_END.unpack_from(tail, at)[5])
    at64 = tail.rfind(b"PK\x06\x06", 0, at)
    if at64 >= 0 and at - at64 >= _END64.size:
        n_bytes = max(n_bytes if n_bytes != 0xFFFFFFFF else 0, int(_END64.unpack_from(tail, at64)[8]))
    return n_bytes
