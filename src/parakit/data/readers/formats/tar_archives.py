"""Tar archives, plain or compressed, read once from front to back: their members, never written under their own names.

Links are left out: what they point to is either a member of its own or outside.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.compression import BLOCK
from parakit.data.readers.formats.content import Members, member_source
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, open_input

_HINT = "get a fresh copy of the file"


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[InputFile]:
    """The members of the archive; what follows a damaged place is left out, and the archive is named."""
    with open_input(file, config, whole=False) as stream, Members(file, config, report) as members:
        try:
            with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it would remember every one
                    if info.isdir():
                        continue
                    content = archive.extractfile(info) if info.isreg() else None
                    if content is None:
                        kind = "a link" if info.issym() or info.islnk() else "a pipe or device"
                        report.skip(member_source(file, info.name), "not a file", kind)
                    elif member := members.add(info.name, content):
                        yield member
                rest = archive.fileobj.read(BLOCK)
                if rest.strip(b"\0"):  # tarfile takes a damaged header for the end
                    raise UnreadableFileError("damaged tar", "there is more after a damaged place", _HINT)
        except tarfile.TarError as error:
            raise UnreadableFileError("damaged tar", str(error), _HINT) from None
