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
    suffix = file_suffix(path)
    if suffix in RECORD_SUFFIXES:
        values: Iterable[object] = (row for _, row in read_records(path))
    elif suffix in _DELIMITERS:
        csv.field_size_limit(2**24)
        values = csv.reader((line + "\n" for _, line in enumerate_lines(path)), delimiter=_DELIMITERS[suffix])
    else:
        values = _paragraphs(line for _, line in enumerate_lines(path))
    for value in values:
        yield from _strings(value)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


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
