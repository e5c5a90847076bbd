"""CSV and TSV: what separates the columns and whether there is a header is found, and a row is text as `row_texts` says.

Of comma, semicolon, tab and bar, the separator is the one with which most of the first rows have the same number of columns,
and of equal ones the one with more columns. The first row is a header where its cells are short, different from each other,
not empty and no numbers. Row numbers count the header, as a spreadsheet does.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import RowStream, UnreadableFileError, iter_line_blocks, open_text
from parakit.data.readers.row_texts import row_texts

_SEPARATORS = ",;\t|"
_SAMPLED = 100  # lines that decide
_MAX_NAME = 100
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_NUMBER = re.compile(r"\s*[-+]?[\d.,\s]*\d%?\s*")


def read_rows(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered texts of the rows."""
    with open_text(file, config, report) as stream:
        lines = _lines(RowStream(stream), config, report)
        sample = list(islice(lines, _SAMPLED))
        separator = "\t" if file.name.lower().endswith((".tsv", ".tab")) else find_separator(sample)
        rows = _rows(chain(sample, lines), separator, config)
        yield from row_texts(named_rows(rows), file, config, report, table=True)


def find_separator(lines: list[str]) -> str:
    """What separates the columns of these lines; a comma where nothing does."""
    scores = {}
    for separator in _SEPARATORS:
        try:
            widths = Counter(len(row) for row in csv.reader(lines[:-1] or lines, delimiter=separator) if row)
        except csv.Error:
            continue
        width, n_rows = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        scores[separator] = (n_rows / widths.total(), width) if width > 1 else (0.0, 1)
    return max(scores, key=lambda one: scores[one], default=",")


def is_header(cells: list[str]) -> bool:
    """Whether a table's first row names its columns."""
    names = [cell.strip() for cell in cells]
    return len(set(names)) == len(names) and all(
        name and len(name) <= _MAX_NAME and not _NUMBER.fullmatch(name) for name in names
    )


def named_rows(rows: Iterator[list[str]]) -> Iterator[tuple[int, object]]:
    """Each row of a table by its columns' names, with its number; the first row names them where `is_header` says so."""
    first = next(rows, [])
    header = [cell.strip() for cell in first] if is_header(first) else []
    for number, cells in chain([(1, first)] if not header else [], enumerate(rows, 2)):
        if any(cell.strip() for cell in cells):
            while len(header) < len(cells):
                header.append(f"column {len(header) + 1}")
            yield number, dict(zip(header, cells, strict=False))


def _rows(lines: Iterator[str], separator: str, config: TextConfig) -> Iterator[list[str]]:
    csv.field_size_limit(config.max_line_bytes)
    try:
        yield from csv.reader(lines, delimiter=separator)
    except csv.Error as error:
        raise UnreadableFileError("damaged CSV", str(error), "check its quotation marks") from None


def _lines(stream: RowStream, config: TextConfig, report: ReadReport) -> Iterator[str]:
    for block in iter_line_blocks(stream, config.max_line_bytes, report):
        yield from _LINE.findall(block.decode("utf-8", "surrogateescape"))
