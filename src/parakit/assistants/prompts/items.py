"""A table of inputs: rows of fields from CSV, JSON lines, JSON or Parquet, with the right answers where the table has them.

An item's id is its `id`, or a digest of its fields, so that two runs over one table have the same items.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.assistants.prompts.prompt import ANSWER
from parakit.common.errors import UserError
from parakit.common.settings import canonical_json, closest_match
from parakit.data.readers.rows import RECORD_SUFFIXES, file_suffix, read_records

TABLES = (".csv", ".tsv")
ID = "id"


@dataclass(frozen=True)
class PromptItem:
    """One input. `answers`: the right ones, none where they are not known."""

    id: str
    fields: Mapping[str, Any]
    answers: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """The fields without the answers, in one spelling: equal inputs have equal ones."""
        return canonical_json(
            {key: " ".join(str(value).split()).casefold() for key, value in self.fields.items()}
        )

    @property
    def text(self) -> str:
        """As people and judges read it: its only field, or all of them by name."""
        values = [" ".join(value) if isinstance(value, list) else value for value in self.fields.values()]
        if len(values) == 1:
            return str(values[0])
        return "\n".join(f"{key}: {value}" for key, value in zip(self.fields, values, strict=True))

    def example(self) -> dict[str, Any]:
        """As an example of a prompt. The answer is the first right one."""
        return {**self.fields, ANSWER: self.answers[0]}


def read_items(path: str | Path, answer_field: str = ANSWER, limit: int | None = None) -> list[PromptItem]:
    """The rows of a table. `answer_field` holds a right answer, or a list of them. `UserError` for a file without rows, an id
    that comes twice, and a value that is no text, number or list of texts.
    """
    items: list[PromptItem] = []
    seen: Counter[str] = Counter()
    for where, row in _rows(Path(path)):
        if limit is not None and len(items) >= limit:
            break
        items.append(_item(row, where, answer_field, seen))
    if not items:
        raise UserError(
            f"{path}: has no rows", "write one item a line, with a column for each field of the prompt"
        )
    return items


def _item(row: Mapping[str, Any], where: str, answer_field: str, seen: Counter[str]) -> PromptItem:
    answers = _answers(row.get(answer_field), f"{where}: {answer_field}")
    fields = {
        key: _field(value, f"{where}: {key}") for key, value in row.items() if key not in (answer_field, ID)
    }
    given = row.get(ID)
    if given in (None, ""):
        name = hashlib.sha256(canonical_json(fields).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        seen[name] += 1
        return PromptItem(name if seen[name] == 1 else f"{name} #{seen[name]}", fields, answers)
    name = str(given)
    seen[name] += 1
    if seen[name] > 1:
        raise UserError(f"{where}: the id {name!r} comes twice", "give each row its own id, or none")
    return PromptItem(name, fields, answers)


def _answers(value: Any, where: str) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    found = value if isinstance(value, list) else [value]
    return tuple(str(_field(one, where)) for one in found)


def _field(value: Any, where: str) -> Any:
    """Text, or a list of texts; numbers become text."""
    if isinstance(value, bool | int | float | str):
        return value if isinstance(value, str) else str(value)
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return [str(one) for one in value]
    raise UserError(f"{where} is {type(value).__name__}, not text", "give texts, numbers, or lists of them")


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    suffix = file_suffix(path)
    if suffix in TABLES:
        yield from _table(path)
        return
    if path.is_file() and suffix not in RECORD_SUFFIXES:
        raise UserError(
            f"{path}: {suffix or 'no ending'} is no table that is read here",
            f"name a {', '.join((*TABLES, *RECORD_SUFFIXES))} file",
        )
    for where, row in read_records(path):
        if not isinstance(row, Mapping):
            raise UserError(f"{where}: is not an object", 'write {"question": "...", "answer": "..."}')
        yield where, row


def _table(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a CSV file by its columns' names, which its first row must give."""
    import csv

    from parakit.data.readers.formats.csv_tables import find_separator

    if not path.is_file():
        raise UserError(f"{path}: no such file", "check the path")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        separator = "\t" if path.suffix.lower() == ".tsv" else find_separator(lines[:100])
        rows = list(csv.reader(lines, delimiter=separator, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: is no CSV in UTF-8: {error}", "save it as UTF-8, and check its quotation marks"
        ) from None
    header = [cell.strip() for cell in rows[0]] if rows else []
    if len(set(header)) < len(header) or not all(header):
        raise UserError(f"{path}: two columns have one name, or none", "name each column in the first row")
    for number, cells in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{path}, row {number}: has {len(cells)} cells, and the header {len(header)}",
                f"put text that contains {separator!r} into quotation marks",
            )
        yield f"{path.name}, row {number}", dict(zip(header, cells, strict=True))


def require_fields(required: Iterable[str], items: Sequence[PromptItem], prompt: str, where: str) -> None:
    """`UserError` where an item lacks a field that a prompt reads."""
    for name in required:
        for item in items:
            if name not in item.fields:
                near = closest_match(name, item.fields)
                columns = ", ".join(item.fields) or "none"
                raise UserError(
                    f"{where}: the item {item.id} has no field {name!r}, which the prompt {prompt} reads; its fields are"
                    f" {columns}",
                    f"did you mean {near!r}? Rename the column, or the field of the template"
                    if near
                    else f"add the column, or set one value for all items: --set {name}=VALUE",
                )
