"""The texts of evaluation suites, from their files: every text in rows of JSON, JSON lines, Parquet, CSV or TSV, whatever its
field is called, plain or gzipped; of any other file its paragraphs.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from parakit.common.errors import UserError
from parakit.data.readers.rows import RECORD_SUFFIXES, enumerate_lines, file_suffix, read_records

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def suite_files(path: str | Path) -> list[tuple[str, Path]]:
    """The file `path`, or the files under the folder `path`, in the order of their names, each after the name of its
    suite: that of the file, after those of its folders.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
    else:
        found = [path] if path.is_file() else []
    if not found:
        raise UserError(f"{path}: no such file", "name the file of a suite: its questions and answers")
    home = path if path.is_dir() else path.parent
    return [(_name(one.relative_to(home)), one) for one in found]


def suite_texts(path: str | Path) -> Iterator[tuple[str, str]]:
    """The texts of a file or a folder of suites, each after its suite's name. `UserError` for a file that cannot be read."""
    for name, file in suite_files(path):
        for text in _file_texts(file):
            yield name, text


def _file_texts(path: Path) -> Iterator[str]:
    values: Iterable[object] = (
        file_rows(path) if has_rows(path) else _paragraphs(line for _, line in enumerate_lines(path))
    )
    for value in values:
        yield from strings(value)


def has_rows(path: Path) -> bool:
    """Whether `file_rows` reads the file, by its name."""
    return file_suffix(path) in (*RECORD_SUFFIXES, *_DELIMITERS)


def file_rows(path: Path) -> Iterator[object]:
    """The rows of a file of JSON, JSON lines, Parquet, CSV or TSV. `UserError` where it cannot be read."""
    suffix = file_suffix(path)
    if suffix in RECORD_SUFFIXES:
        yield from (row for _, row in read_records(path))
    else:
        csv.field_size_limit(2**24)
        lines = (line + "\n" for _, line in enumerate_lines(path))
        yield from csv.reader(lines, delimiter=_DELIMITERS[suffix])


def strings(value: object) -> Iterator[str]:
    """All texts in a row, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph)


def _name(path: Path) -> str:
    return str(path.with_name(path.name.split(".")[0]))
