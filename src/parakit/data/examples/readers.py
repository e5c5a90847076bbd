"""Rows of a task from files: JSON lines, a JSON array, Parquet, CSV, TSV, and two parallel files of lines; plain or gzipped.

CSV has commas, quotation marks around fields and a header, as spreadsheets write it. In TSV nothing is quoted: a tab
separates fields and a line end rows. In a table, words and tags are separated by spaces, labels and answers by "|", and
`negatives` is one text. The
first invalid row is an error that names the file and the row, counted from 1 with the header included.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.data.examples.formats import ExampleRow, TaskFormat, check_row, get_task_format
from parakit.data.readers.inputs import check_paths
from parakit.data.readers.rows import (
    RECORD_SUFFIXES,
    display_name,
    enumerate_lines,
    file_suffix,
    read_records,
    read_rows,
)
from parakit.data.row_report import RowReport

_TABLES = (".csv", ".tsv")
_FORMAT_HINT = "give .jsonl, .json, .parquet, .csv or .tsv (plain or .gz)"
_PAIR_HINT = "; for translate also two files of lines as SOURCE:TARGET"


def read_examples(
    path: str | Path, task: str, columns: Sequence[str] | None = None, report: RowReport | None = None
) -> Iterator[tuple[str, ExampleRow]]:
    """Stream the rows of one file, or of a pair of files "train.en.gz:train.de.gz", each with its location
    ("rows.csv, row 7").

    `columns` names the columns of a table without a header. Keys that are none of the task's are counted in `report`.
    Raises `UserError` at the first row that is no example of the task.
    """
    format = get_task_format(task)
    return read_rows(
        _records(str(path), format, columns),
        lambda row: check_row(format, row, row.where),
        report or RowReport(),
        f"a row looks like {format.sample_row}",
    )


def _records(path: str, task: TaskFormat, columns: Sequence[str] | None) -> Iterator[tuple[str, object]]:
    """Rows that are not checked, each with its location."""
    if _is_pair(path, task):
        yield from _parallel(path)
        return
    check_paths([path])
    file = Path(path).expanduser()
    if file.is_dir():
        raise UserError(f"{file}: is a folder", f"name its files: {_FORMAT_HINT}")
    suffix = file_suffix(file)
    if suffix in _TABLES:
        for number, row in _table(file, suffix, task, columns):
            yield f"{display_name(file)}, row {number}", row
    elif suffix in RECORD_SUFFIXES:
        yield from read_records(file)
    else:
        raise UserError(
            f"{file}: {suffix or 'no ending'} is not a supported file type",
            _FORMAT_HINT + (_PAIR_HINT if task.name == "translate" else ""),
        )


def example_paths(path: str, task: str) -> list[Path]:
    """The files that `path` names: one, or two for a pair."""
    parts = path.split(":") if _is_pair(path, get_task_format(task)) else [path]
    return [Path(part).expanduser() for part in parts]


def _is_pair(path: str, task: TaskFormat) -> bool:
    return task.name == "translate" and ":" in path and not Path(path).expanduser().exists()


def _table(
    path: Path, suffix: str, task: TaskFormat, columns: Sequence[str] | None
) -> Iterator[tuple[int, JsonObject]]:
    """Rows of a table by column name; empty lines are skipped."""
    fields = _csv_fields(path) if suffix == ".csv" else _tsv_fields(path)
    header = list(columns) if columns is not None else None
    if header is not None:
        _check_header(header, task, display_name(path), "`columns`")
    for number, values in fields:
        if not values or values == [""]:
            continue
        if header is None:
            header = [value.strip() for value in values]
            _check_header(header, task, f"{display_name(path)}, row {number}", "the header")
            continue
        where = f"{display_name(path)}, row {number}"
        if len(values) != len(header):
            raise UserError(
                f"{where}: {len(values)} fields where there are {len(header)} columns ({', '.join(header)})",
                "put quotation marks around a field with commas or line ends"
                if suffix == ".csv"
                else "a tab separates fields: write one between each two, and none inside",
            )
        yield number, _as_values(dict(zip(header, values, strict=True)), task, where)


def _check_header(header: list[str], task: TaskFormat, where: str, what: str) -> None:
    missing = [key for key in (*task.inputs, task.answer) if key not in header]
    if missing:
        close = closest_match(missing[0], header)
        hint = f"call column {close!r} {missing[0]!r}" if close else "name the columns as the task's keys are"
        raise UserError(
            f"{where}: {what} has no {missing[0]!r}; it has {', '.join(map(repr, header))}",
            f"{hint}; columns of a file without a header are named with `columns`",
        )
    twice = [key for key in task.keys if header.count(key) > 1]
    if twice:
        raise UserError(f"{where}: {what} has {twice[0]!r} twice", "keep one of the columns")


def _as_values(row: dict[str, str], task: TaskFormat, where: str) -> JsonObject:
    """The text of a table as the values of a JSON row; columns that are none of the task's stay text."""
    others = {key: value for key, value in row.items() if key not in task.keys}
    values: JsonObject = {key: row[key] for key in task.keys if key in row}
    for key in task.optional:
        if not values.get(key, "").strip():
            values.pop(key, None)
    for key in ("words", "tags"):
        if key in values:
            values[key] = values[key].split()
    for key in ("labels", "answers"):
        if key in values:
            values[key] = [part.strip() for part in values[key].split("|") if part.strip()]
    if negative := values.pop("negatives", "").strip():
        values["negatives"] = [negative]
    start = values.pop("answer_start", "").strip()
    if start:
        values["answer_start"] = int(start) if start.isdecimal() else start
    if "score" in values:
        try:
            values["score"] = float(values["score"])
        except ValueError:
            raise UserError(
                f"{where}: 'score' is {values['score']!r}, not a number",
                "give a number such as 0.5, or remove the row",
            ) from None
    return values | others


def _csv_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbered records; a quoted field may hold line ends."""
    reader = csv.reader((f"{line}\n" for _, line in enumerate_lines(path)), strict=True)
    number = 0
    try:
        for number, fields in enumerate(reader, 1):
            yield number, fields
    except csv.Error as error:
        raise UserError(
            f"{display_name(path)}, row {number + 1}: not CSV ({error})",
            "double a quotation mark inside a field, or give JSON lines",
        ) from None


def _tsv_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in enumerate_lines(path))


def _parallel(path: str) -> Iterator[tuple[str, ExampleRow]]:
    """Rows of two files of lines; `UserError` where one is longer than the other."""
    parts = path.split(":")
    if len(parts) != 2 or not all(parts):
        raise UserError(f"{path}: not SOURCE:TARGET", "name two files with one colon between them")
    check_paths(parts)
    first, second = (Path(part).expanduser() for part in parts)
    n_lines = [0, 0]
    for one, other in zip_longest(enumerate_lines(first), enumerate_lines(second)):
        n_lines = [n + (line is not None) for n, line in zip(n_lines, (one, other), strict=True)]
        if one is None or other is None:
            continue  # count on: the message gives both numbers
        where = f"{display_name(first)}:{display_name(second)}, row {one[0]}"
        yield where, {"source": one[1].strip(), "target": other[1].strip()}
    if n_lines[0] != n_lines[1]:
        raise UserError(
            f"{display_name(first)} has {n_lines[0]} lines and {display_name(second)} {n_lines[1]}",
            "give two files in which the same lines belong together",
        )
