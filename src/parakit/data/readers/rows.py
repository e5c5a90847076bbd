"""Numbered rows from a file: JSON lines, a JSON array, or Parquet; each of them plain or gzipped.

Rows are numbered from 1, as editors number lines, so that an error can name the row; an invalid row is an error. JSON lines
and Parquet are streamed; an array is read whole.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.config import TextConfig
from parakit.data.documents import repair
from parakit.data.read_report import ReadReport
from parakit.data.readers.inputs import InputFile, check_paths
from parakit.data.readers.lines import (
    UnreadableFileError,
    decompression_bomb_error,
    expansion_limit,
    iter_line_blocks,
    open_input,
    open_text,
)

RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
_HINT = "give .jsonl, .json or .parquet (plain or .gz)"
_ROWS = 64  # rows of Parquet decoded at once


def read_records(path: str | Path) -> Iterator[tuple[str, object]]:
    """Stream the rows of one file, each with its location ("pairs.jsonl, row 7"). `UserError` for a file that is missing,
    damaged or of another format, and at the first row that cannot be read.
    """
    check_paths([str(path)])
    file = Path(path).expanduser()
    if file.is_dir():
        raise UserError(f"{file}: is a folder", f"name its files: {_HINT}")
    suffix = file_suffix(file)
    if suffix not in RECORD_SUFFIXES:
        raise UserError(f"{file}: {suffix or 'no ending'} is not a supported file type", _HINT)
    name = display_name(file)
    rows = {".json": _array, ".parquet": _parquet}.get(suffix, enumerate_json_lines)(file)
    for number, row in rows:
        yield f"{name}, row {number}", row


def file_suffix(path: Path) -> str:
    """A file's suffix in lower case, without ".gz": ".jsonl" of "Pairs.jsonl.gz"."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def display_name(path: Path) -> str:
    """A file's name for messages: valid Unicode."""
    return repair(path.name)[0]


def enumerate_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; raises `UserError` for a file that is no text."""
    config, report, number = TextConfig(), ReadReport(), 0
    try:
        with _open_rows(path, report) as stream:
            for block in iter_line_blocks(stream, config.max_line_bytes, report):
                if report.long_lines:
                    break
                for line in block.removesuffix(b"\n").split(b"\n"):
                    number += 1
                    yield number, _decoded(line.removesuffix(b"\r"), f"{display_name(path)}, row {number}")
    except UnreadableFileError as error:
        raise _user_error(path, error) from None
    if report.long_lines:
        limit = f"over {config.max_line_bytes:,} bytes"
        raise UserError(f"{path}: a row after row {number} is {limit}", "cut its text, or remove it")


def enumerate_json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """Numbered values, one a line; empty lines are skipped."""
    for number, line in enumerate_lines(path):
        if not line or line.isspace():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{display_name(path)}, row {number}: not JSON ({error})", "give one JSON object a line"
            ) from None


def _array(path: Path) -> Iterator[tuple[int, object]]:
    try:
        with _open_rows(path, ReadReport()) as stream:
            rows = json.loads(stream.read())
    except UnreadableFileError as error:
        raise _user_error(path, error) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not JSON ({error})", "a .json file holds one array of rows; JSON lines end in .jsonl"
        ) from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: a {type(rows).__name__}, not an array of rows", "put the rows into [ ]")
    return enumerate(rows, 1)


def _parquet(path: Path) -> Iterator[tuple[int, object]]:
    import pyarrow  # here: slow to import, and most files need none of it

    try:
        with open_input(_input(path), TextConfig()) as stream, tempfile.TemporaryFile() as unpacked:
            if path.suffix.lower() == ".gz":
                shutil.copyfileobj(stream, unpacked)  # Parquet is read from its end
                yield from _table_rows(unpacked, path)
            else:
                yield from _table_rows(stream, path)
    except UnreadableFileError as error:
        raise _user_error(path, error) from None
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
        detail = str(error).split("\n")[0][:200]
        raise UserError(f"{path}: damaged Parquet ({detail})", "get a fresh copy of the file") from None


def _table_rows(stream: IO[bytes], path: Path) -> Iterator[tuple[int, object]]:
    from pyarrow import parquet

    table = parquet.ParquetFile(stream, buffer_size=65_536, pre_buffer=False)
    limit = expansion_limit(path.stat().st_size, TextConfig())
    for group in range(table.metadata.num_row_groups):
        if table.metadata.row_group(group).total_byte_size > limit:
            raise decompression_bomb_error(TextConfig())
    number = 0
    for batch in table.iter_batches(batch_size=_ROWS, use_threads=False):
        for row in batch.to_pylist():
            number += 1
            yield number, {key: value for key, value in row.items() if value is not None}


@contextmanager
def _open_rows(path: Path, report: ReadReport) -> Iterator[IO[bytes]]:
    """A file of rows as UTF-8; an encoding that is only guessed is printed."""
    with open_text(_input(path), TextConfig(), report) as stream:
        for name, encoding in report.guessed_files.items():
            log(f"{name}: read as {encoding}, recognized from its letters; save it as UTF-8 if that is wrong")
        yield stream


def _input(path: Path) -> InputFile:
    return InputFile(path, display_name(path), "jsonl", path.suffix.lower() == ".gz", named=True)


def _user_error(path: Path, error: UnreadableFileError) -> UserError:
    return UserError(f"{path}: {error.reason}{f' ({error.detail})' if error.detail else ''}", error.hint)


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: byte {error.start + 1} is not UTF-8", "save the file as UTF-8 (iconv)"
        ) from None
