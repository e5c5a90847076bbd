"""The text of rows of any schema: a named field, a template over several, or the field that is found to hold the text.

The rule by which a field is found, where there is no `text` and nothing else is named: of the fields of the first 200 rows
(or the first MiB of them) the one with the most characters of text on average, rows without it counted as none; it must have
at least 20 on average. In a table that has none, a row becomes the lines "column: value". Fields of objects inside a row are
named with a dot: `article.body`. What was found is in the report.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError
from parakit.data.readers.tracked_row import is_empty, key_name

N_SAMPLED, SAMPLED_CHARS = 200, 2**20
MIN_CHARS = 20  # on average, for a field to be taken for the text
_FIELD = re.compile(r"\{([^{}]+)\}")
_NESTED = 4  # objects inside objects that are looked into


def row_texts(
    rows: Iterable[tuple[int, object]],
    file: InputFile,
    config: TextConfig,
    report: ReadReport,
    table: bool = False,
) -> Iterator[tuple[int, object]]:
    """The text of each numbered row: a text, None where it has none, or the exception of a broken row. Fields that are not
    read are counted. `table`: the rows have few long texts, and without one all of their columns are read.
    """
    rows = iter(rows)
    sample, damage = _sample(rows)
    field, template = config.text_field, config.text_template
    known = [row for _, row in sample if isinstance(row, Mapping)]
    if template is None and field == "text" and known and not any("text" in row for row in known):
        if (found := find_text_field(known)) is not None:
            field = found
            report.count_found_field(file.source, field)
        elif table:
            template = "\n".join(f"{name}: {{{name}}}" for name in known[0])
            report.count_found_field(file.source, "all columns")
    read = set(_FIELD.findall(template)) if template is not None else {field}
    read |= {name.partition(".")[0] for name in read}
    for number, row in chain(sample, rows):
        if isinstance(row, Mapping):
            report.ignore(key_name(key) for key in row if key not in read and not is_empty(row[key]))
        yield number, _filled(row, template) if template is not None else text_of(row, field)
    if damage:
        raise damage


def find_text_field(rows: list[Mapping[str, object]]) -> str | None:
    """The field with the most characters on average, at least `MIN_CHARS`; of equal ones the first."""
    totals = Counter[str]()
    for row in rows:
        for name, value in _fields(row):
            totals[name] += len(value.strip()) if isinstance(value, str) else 0
    if not totals:
        return None
    name, total = totals.most_common(1)[0]
    return name if total >= MIN_CHARS * len(rows) else None


def text_of(row: object, field: str) -> object:
    """The text of a row, None where it has none, or an exception for a broken row."""
    if isinstance(row, Exception):
        return row
    if not isinstance(row, Mapping):
        return ValueError(f"not a JSON object but {type(row).__name__}")
    found, value = _look_up(row, field)
    if not found:
        return ValueError(f"no field {field!r}, only {', '.join(map(repr, row))}"[:200])
    if value is None or isinstance(value, str):
        return value
    return ValueError(f"field {field!r} is {type(value).__name__}, not text")


def _filled(row: object, template: str) -> object:
    """The template with the row's values; None where all of them are empty."""
    if isinstance(row, Exception):
        return row
    if not isinstance(row, Mapping):
        return ValueError(f"not a JSON object but {type(row).__name__}")
    values = {name: _look_up(row, name) for name in _FIELD.findall(template)}
    if not any(found for found, _ in values.values()):
        return ValueError(f"no field of text_template, only {', '.join(map(repr, row))}"[:200])
    if all(is_empty(value) for _, value in values.values()):
        return None
    return _FIELD.sub(lambda match: _as_text(values[match[1]][1]), template)


def _as_text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _look_up(row: Mapping[str, object], field: str) -> tuple[bool, object]:
    """Whether the row has the field, and its value."""
    if field in row:
        return True, row[field]
    outer, dot, inner = field.partition(".")
    value = row.get(outer)
    return _look_up(value, inner) if dot and isinstance(value, Mapping) else (False, None)


def _fields(row: Mapping[str, object], depth: int = 0) -> Iterator[tuple[str, object]]:
    for name, value in row.items():
        if isinstance(value, Mapping) and depth < _NESTED:
            yield from ((f"{name}.{inner}", item) for inner, item in _fields(value, depth + 1))
        else:
            yield name, value


def _sample(
    rows: Iterator[tuple[int, object]],
) -> tuple[list[tuple[int, object]], UnreadableFileError | None]:
    """The rows that decide, and the damage that ends them."""
    sample: list[tuple[int, object]] = []
    n_chars = 0
    try:
        for number, row in rows:
            sample.append((number, row))
            if isinstance(row, Mapping):
                n_chars += sum(len(value) for value in row.values() if isinstance(value, str))
            if len(sample) >= N_SAMPLED or n_chars >= SAMPLED_CHARS:
                break
    except UnreadableFileError as error:
        return sample, error
    return sample, None
