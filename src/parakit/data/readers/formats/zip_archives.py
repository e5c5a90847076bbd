"""Zip archives: their members, without ever writing one to disk under its own name. A member that is damaged or encrypted is
named, and the others are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import Members, member_source
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import is_drive_error
from parakit.data.readers.zip_files import ENCRYPTED, MEMBER_DAMAGE, open_zip


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[InputFile]:
    """The members of the archive."""
    with open_zip(file.path) as archive, Members(file, config, report) as members:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & ENCRYPTED:
                report.skip(member_source(file, info.filename), "encrypted")
                continue
            try:
                member = members.add(info.filename, lambda info=info: archive.open(info))  # type: ignore[misc]
            except MEMBER_DAMAGE as error:
                if is_drive_error(error):
                    raise  # no other member can be read either
                report.skip(member_source(file, info.filename), "damaged zip", str(error))
                continue
            if member:
                yield member
