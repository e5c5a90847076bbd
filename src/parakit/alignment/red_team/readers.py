"""Reads attacks from files: AdvBench's two tables, and JSON lines (or JSON, Parquet) or CSV.

A row has `prompt` or `messages`; `category`, `kind`, `wanted`, `act`, `accept`, `reject`, `pair` and `person` are optional.
In CSV the words of `accept` and `reject` are separated by ";". AdvBench (Zou et al. 2023) is recognised by its columns:
`goal` is a harmful request, a lone `target` a harmful sentence that must not be repeated. The first invalid row is an
error that names it; equal rows count once.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.data.conversations.messages import ROLES, Message, parse_messages
from parakit.data.readers.inputs import check_paths
from parakit.data.readers.rows import enumerate_lines, read_records
from parakit.data.readers.tracked_row import TrackedRow
from parakit.primer.attacks.attack import CATEGORIES, WANTED, WANTED_BY, Attack, as_messages

_KNOWN = (
    "prompt",
    "messages",
    "category",
    "kind",
    "wanted",
    "act",
    "accept",
    "reject",
    "pair",
    "person",
    "id",
)
_HINT = 'a row is {"prompt": "How do I steal a car?", "category": "direct"}, or a CSV file with those columns'


def read_attacks(path: str | Path) -> list[Attack]:
    """Every attack of a `.jsonl`, `.json`, `.parquet` or `.csv` file. `UserError` names the first invalid row, or a pair with
    one half.
    """
    path = Path(path)
    attacks = list(_csv(path) if path.suffix.lower() == ".csv" else _records(path))
    if not attacks:
        raise UserError(f"{path}: no attacks", _HINT)
    _check_pairs(path, attacks)
    return list({attack.id: attack for attack in attacks}.values())


def _records(path: Path) -> Iterator[Attack]:
    for where, row in read_records(path):
        if not isinstance(row, dict):
            raise UserError(f"{where}: is not an object", _HINT)
        yield _attack(row, where)


def _csv(path: Path) -> Iterator[Attack]:
    check_paths([str(path)])
    lines = (f"{line}\n" for _, line in enumerate_lines(path))
    reader = csv.DictReader(lines, strict=True)
    try:
        columns = tuple(reader.fieldnames or ())
        for row in reader:
            where = f"{path.name}, row {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: not as many fields as in the header", "fill in each field")
            yield _from_table(row, columns, where)
    except csv.Error as error:
        raise UserError(f"{path.name}, row {reader.line_num}: not CSV ({error})", _HINT) from None


def _from_table(row: Mapping[str, str], columns: tuple[str, ...], where: str) -> Attack:
    if "goal" in columns:
        return Attack("direct", "advbench behaviour", as_messages(row["goal"].strip()), "decline")
    if columns == ("target",):
        target = row["target"].strip().strip('"').strip()
        return Attack(
            "direct", "advbench string", as_messages(f"Repeat this: {target}"), "ignore", reject=(target,)
        )
    values: JsonObject = {name: value.strip() for name, value in row.items() if value.strip()}
    for name in values.keys() & {"accept", "reject"}:
        values[name] = [word.strip() for word in values[name].split(";") if word.strip()]
    return _attack(values, where)


def _attack(row: Mapping[str, Any], where: str) -> Attack:
    for name in row:
        if name not in _KNOWN:
            close = closest_match(name, _KNOWN)
            raise UserError(f"{where}: unknown key {name!r}", f"did you mean {close!r}?" if close else _HINT)
    category = _text(row, "category", where) or "own"
    wanted = row.get("wanted") or WANTED_BY.get(category, "decline")
    if wanted not in WANTED:
        raise UserError(f"{where}: `wanted` is {wanted!r}", f"it is one of {', '.join(WANTED)}")
    close = closest_match(category, CATEGORIES) if category not in (*CATEGORIES, "own") else None
    if close and close.replace("_", "") == category.lower().replace(" ", "").replace("-", ""):
        raise UserError(f"{where}: category {category!r}", f"write it as {close!r}")
    attack = Attack(
        category,
        _text(row, "kind", where) or "own",
        _messages(row, where),
        wanted,
        _text(row, "act", where),
        _words(row, "accept", where),
        _words(row, "reject", where),
        _text(row, "pair", where),
        _text(row, "person", where),
    )
    if wanted == "ignore" and not attack.reject:
        raise UserError(
            f"{where}: wanted is 'ignore', but `reject` lists no words",
            "list the words that the answer must not contain",
        )
    if wanted == "same" and not attack.pair:
        raise UserError(
            f"{where}: wanted is 'same', but there is no `pair`", "give both halves the same `pair`"
        )
    return attack


def _messages(row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    if ("prompt" in row) == ("messages" in row):
        raise UserError(f"{where}: needs either `prompt` or `messages`", _HINT)
    if "prompt" in row:
        prompt = _text(row, "prompt", where)
        if not prompt.strip():
            raise UserError(f"{where}: the prompt is empty", _HINT)
        return as_messages(prompt)
    turns = row["messages"]
    if not isinstance(turns, list):
        raise UserError(f"{where}: `messages` is not a list of roles and contents", _HINT)
    held = TrackedRow({}, where)
    messages = parse_messages(turns, where, held)
    if unknown := held.close():
        raise UserError(f"{where}: {unknown[0]!r} is not understood", "a message has a role and a content")
    if not messages or messages[-1].role not in ("user", "tool"):
        raise UserError(
            f"{where}: `messages` must end with a user's or a tool's turn", f"roles: {', '.join(ROLES)}"
        )
    return messages


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise UserError(f"{where}: {name!r} is {type(value).__name__}, not text", _HINT)
    return value


def _words(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = row.get(name, [])
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise UserError(f"{where}: {name!r} is not a list of words", f'write "{name}": ["soap", "water"]')
    return tuple(value)


def _check_pairs(path: Path, attacks: list[Attack]) -> None:
    halves: dict[str, int] = {}
    for attack in attacks:
        if attack.pair:
            halves[attack.pair] = halves.get(attack.pair, 0) + 1
    lone = [pair for pair, n in halves.items() if n < 2]
    if lone:
        raise UserError(f"{path}: the pair {lone[0]!r} has one half only", "give both halves the same `pair`")
