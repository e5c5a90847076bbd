"""Numbered rows from a file: JSON lines, a JSON array, or Parquet; each of them plain or gzipped. `read_rows` is the one
reader of conversations, prompts, preferences and examples.

Rows are numbered from 1, as editors number lines, so that an error can name the row; an invalid row is an error. Rows are
streamed, and one over 16 MiB is an error. What a file of JSON holds is decided by its first character, not by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.config import TextConfig
from parakit.data.documents import repair
from parakit.data.read_report import ReadReport
from parakit.data.readers.arrays import DuplicateKeyError, iter_array, loads
from parakit.data.readers.formats.registry import split_name
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.inputs import check_paths
from parakit.data.readers.lines import RowStream, UnreadableFileError, iter_line_blocks, open_input, open_text
from parakit.data.readers.parquet import parquet_rows
from parakit.data.readers.tracked_row import TrackedRow, as_row
from parakit.data.row_report import RowReport, UninformativeExample

RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
_HINT = "give .jsonl, .json or .parquet (plain or .gz)"
Item = TypeVar("Item")


def read_rows(
    records: Iterable[tuple[str, object]], parse: Callable[[TrackedRow], Item], report: RowReport, hint: str
) -> Iterator[tuple[str, Item]]:
    """What `parse` makes of each row, with the row's location. `hint` says what a row looks like.

    Rows for which `parse` raises `UninformativeExample` are counted in `report`, as are the keys that it did not read;
    an unread key that bears text is a `UserError` with the row's number, as every row that `parse` refuses is.
    """
    for where, values in records:
        row = as_row(values, where, hint)
        try:
            item = parse(row)
        except UninformativeExample as error:
            report.add(error.reason, where)
            continue
        except RecursionError:
            raise UserError(f"{where}: nested too deeply", hint) from None
        report.ignore(row.close())
        yield where, item


def read_records(path: str | Path, any_name: bool = False) -> Iterator[tuple[str, object]]:
    """Stream the rows of one file, each with its location ("pairs.jsonl, row 7"). `UserError` for a file that is missing,
    damaged or of another format, and at the first row that cannot be read. With `any_name` a file of an unknown ending is
    read as JSON.
    """
    check_paths([str(path)])
    file = Path(path).expanduser()
    if file.is_dir():
        raise UserError(f"{file}: is a folder", f"name its files: {_HINT}")
    suffix = file_suffix(file)
    if suffix not in RECORD_SUFFIXES and not any_name:
        raise UserError(f"{file}: {suffix or 'no ending'} is not a supported file type", _HINT)
    name = display_name(file)
    for number, row in _parquet(file) if suffix == ".parquet" else enumerate_json(file):
        yield f"{name}, row {number}", row


def file_suffix(path: Path) -> str:
    """A file's suffix in lower case, without ".gz": ".jsonl" of "Pairs.jsonl.gz"."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def display_name(path: Path) -> str:
    """A file's name for messages: valid Unicode."""
    return repair(path.name)[0]


def enumerate_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; raises `UserError` for a file that is no text."""
    report = ReadReport()
    with _open_rows(path, report) as stream:
        yield from _numbered_lines(stream, path, report)


def enumerate_json(path: Path) -> Iterator[tuple[int, object]]:
    """Numbered values of JSON lines, in which empty lines are skipped, or of one JSON array."""
    report = ReadReport()
    with _open_rows(path, report) as stream:
        if stream.is_array:
            yield from iter_array(stream, TextConfig().max_line_bytes)
            return
        for number, line in _numbered_lines(stream, path, report):
            if not line or line.isspace():
                continue
            try:
                yield number, loads(line)
            except DuplicateKeyError as error:
                raise UserError(f"{display_name(path)}, row {number}: {error}", "keep one of them") from None
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{display_name(path)}, row {number}: not JSON ({error})",
                    "give one JSON object a line, or one array of objects: [{...}, {...}]",
                ) from None


def _numbered_lines(stream: RowStream, path: Path, report: ReadReport) -> Iterator[tuple[int, str]]:
    number, limit = 0, TextConfig().max_line_bytes
    for block in iter_line_blocks(stream, limit, report):
        if report.long_lines:
            break
        for line in block.removesuffix(b"\n").split(b"\n"):
            number += 1
            yield number, _decoded(line.removesuffix(b"\r"), f"{display_name(path)}, row {number}")
    if report.long_lines:
        raise UserError(
            f"{display_name(path)}, row {number + 1}: over {limit:,} bytes", "cut its text, or remove it"
        )


def _parquet(path: Path) -> Iterator[tuple[int, object]]:
    try:
        with open_input(_input(path), TextConfig()) as stream:
            yield from parquet_rows(stream, _input(path), TextConfig())
    except UnreadableFileError as error:
        raise _user_error(path, error) from None


@contextmanager
def _open_rows(path: Path, report: ReadReport) -> Iterator[RowStream]:
    """A file of rows as UTF-8; an encoding that is only guessed is printed."""
    try:
        with open_text(_input(path), TextConfig(), report) as stream:
            for name, encoding in report.guessed_files.items():
                log(
                    f"{name}: read as {encoding}, recognized from its letters; save it as UTF-8 if that is wrong"
                )
            yield RowStream(stream)
    except UnreadableFileError as error:
        raise _user_error(path, error) from None


def _input(path: Path) -> InputFile:
    return InputFile(path, display_name(path), "jsonl", split_name(path.name)[1], named=True)


def _user_error(path: Path, error: UnreadableFileError) -> UserError:
    return UserError(f"{path}: {error.reason}{f' ({error.detail})' if error.detail else ''}", error.hint)


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: byte {error.start + 1} is not UTF-8", "save the file as UTF-8 (iconv)"
        ) from None
