"""What a format's reader yields: pieces of text, and files inside the file.

A file inside (a member) is copied to a temporary file, under a name of our own: the name that the archive gives it is only
looked at. Its cost is counted against the archive on disk: bytes by `max_expansion`, members by `max_members`, archives in
archives by `MAX_DEPTH`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from parakit.data.config import TextConfig
from parakit.data.documents import repair
from parakit.data.read_report import ReadReport
from parakit.data.readers.compression import BLOCK
from parakit.data.readers.detection import format_of
from parakit.data.readers.input_file import MAX_DEPTH, InputFile
from parakit.data.readers.lines import UnreadableFileError, charge
from parakit.data.readers.skip_reasons import is_included, reason_of_name

MAX_NAME = 1_000  # characters of a member's path


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text. Consecutive pieces of one `source` are one text."""

    text: str
    source: str


class Members:
    """The files inside `file`, one at a time; as a context manager it removes the last one.

    with Members(file, config, report) as members:
        for name, stream in ...:
            if member := members.add(name, stream):
                yield member
    """

    def __init__(self, file: InputFile, config: TextConfig, report: ReadReport, counted: bool = True) -> None:
        """Without `counted` the number of members is not limited: each has a share of the file's own bytes."""
        self._counted = counted
        self._file, self._config, self._report = file, config, report
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder:
            self._folder.cleanup()

    def add(
        self, name: str, stream: IO[bytes] | Callable[[], IO[bytes]], filter_names: bool = True
    ) -> InputFile | None:
        """A member of this name, with the bytes of `stream` (or of the stream that it returns), to be yielded; None where it
        is left out, which is counted. With `filter_names` one whose name speaks for no known format is left out, as in a
        folder. `UnreadableFileError` where the archive as a whole exceeds its limits.
        """
        if self._counted:
            self._count()
        inner = repair(name)[0].replace("\\", "/").removeprefix("./")
        source = member_source(self._file, name)
        if reason := self._reason(inner, filter_names):
            self._report.skip(source, *reason)
            return None
        path = self._copy(stream() if callable(stream) else stream)
        file_format, compression = format_of(path, inner)
        if file_format is None and filter_names and not is_included(inner, self._config):
            self._report.skip(source, "unknown kind", Path(inner).suffix)
            return None
        return replace(
            self._file,
            path=path,
            source=source,
            format=file_format,
            compression=compression,
            named=False,
            depth=self._file.depth + 1,
            root_size=self._root_size(),
        )

    def decompressed(self, stream: IO[bytes]) -> InputFile:
        """This file itself, without its compression."""
        if self._file.depth >= MAX_DEPTH:
            raise _too_deep_error()
        path = self._copy(stream)
        return replace(
            self._file, path=path, compression=None, depth=self._file.depth + 1, root_size=self._root_size()
        )

    def _count(self) -> None:
        budget = self._file.budget
        budget.n_members += 1
        if budget.n_members > self._config.max_members:
            detail = f"over {self._config.max_members:,} files in it"
            raise UnreadableFileError("too many members", detail, "if you trust it, raise max_members")

    def _reason(self, inner: str, filter_names: bool) -> tuple[str, str] | None:
        parts = inner.split("/")
        if inner.startswith("/") or ".." in parts or parts[0][1:2] == ":" or "\ufffd" in parts:
            return "a path that leaves the archive", ""
        if not inner or len(inner) > MAX_NAME:
            return "no valid name", ""
        if self._file.depth >= MAX_DEPTH:
            return "archives nested too deeply", f"over {MAX_DEPTH}"
        return reason_of_name(inner, self._config) if filter_names else None

    def _copy(self, stream: IO[bytes]) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="parakit-")
        path = Path(self._folder.name) / "member"
        with open(path, "wb") as copy:
            while block := stream.read(BLOCK):
                charge(self._file, len(block), self._config)
                copy.write(block)
        return path

    def _root_size(self) -> int:
        return self._file.size() if self._file.root_size is None else self._file.root_size


def _too_deep_error() -> UnreadableFileError:
    return UnreadableFileError("archives nested too deeply", f"over {MAX_DEPTH}", "unpack the outer ones")


def member_source(file: InputFile, name: str) -> str:
    """The source of a member of this name: printable Unicode, whatever the archive holds."""
    inner = repair(name)[0].replace("\\", "/").removeprefix("./")
    return f"{file.source}/{''.join(c if c.isprintable() else chr(0xFFFD) for c in inner)[:MAX_NAME]}"
