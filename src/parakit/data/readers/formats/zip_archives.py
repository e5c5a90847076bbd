"""Zip archives: their members, without ever writing one to disk under its own name. A member that is damaged or encrypted is
named, and the others are read. Of an archive whose end is missing the members are found by their own headers, and the
archive is named.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import IO
from zipfile import ZipFile

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import Members, member_source
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, is_drive_error
from parakit.data.readers.zip_files import ENCRYPTED, MEMBER_DAMAGE, open_zip
from parakit.data.readers.zip_recovery import local_members


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[InputFile]:
    """The members of the archive."""
    has_list = False
    with Members(file, config, report) as members:
        try:
            with open_zip(file.path) as archive:
                has_list = True
                yield from _listed(archive, members, file, report)
        except UnreadableFileError as error:
            if has_list or error.reason != "damaged zip":
                raise
            n_found = yield from _found(members, file, report)
            detail = (
                f"{error.detail}; by their own headers {n_found:,} members were found, and nothing after them"
            )
            raise UnreadableFileError(error.reason, detail, error.hint) from None


def _listed(
    archive: ZipFile, members: Members, file: InputFile, report: ReadReport
) -> Generator[InputFile, None, None]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        if info.flag_bits & ENCRYPTED:
            report.skip(member_source(file, info.filename), "encrypted")
        elif member := _add(members, info.filename, partial(archive.open, info), file, report):
            yield member


def _found(members: Members, file: InputFile, report: ReadReport) -> Generator[InputFile, None, int]:
    """The members of an archive without its list; returns how many there are."""
    n_found = 0
    for one in local_members(file.path):
        if one.name.endswith("/"):
            continue
        n_found += 1
        if one.stream is None:
            report.skip(member_source(file, one.name), one.reason)
        elif member := _add(members, one.name, one.stream, file, report):
            yield member
    return n_found


def _add(
    members: Members,
    name: str,
    stream: IO[bytes] | Callable[[], IO[bytes]],
    file: InputFile,
    report: ReadReport,
) -> InputFile | None:
    try:
        return members.add(name, stream)
    except MEMBER_DAMAGE as error:
        if is_drive_error(error):
            raise  # no other member can be read either
        report.skip(member_source(file, name), "damaged zip", str(error))
        return None
