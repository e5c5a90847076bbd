"""What was used: sums of the ledger by key, model and day."""

from __future__ import annotations

import csv
import datetime
import io
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from parakit.common.files import JsonObject
from parakit.serving.accounts.keys import LOCAL
from parakit.serving.accounts.prices import NANO
from parakit.serving.accounts.rows import ENDED

GroupBy = Literal["key", "model", "day"]
_GROUPS = {
    "key": f"coalesce(keys.name, '{LOCAL.name}')",
    "model": "requests.model",
    "day": "date(requests.started_at, 'unixepoch')",
}
_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd", "seconds")
_FIELDS = ("requests", *ENDED, "running", *_COUNTS)


@dataclass(frozen=True)
class UsageSum:
    """One group's sums. A field by which nothing is grouped is None. `cached_tokens` is a part of `prompt_tokens`; `seconds`
    is the sum of durations; `usd` is exact to a nano-dollar. Days are those of UTC.
    """

    key: str | None
    model: str | None
    day: str | None
    requests: int
    finished: int
    cancelled: int
    failed: int
    refused: int
    interrupted: int
    running: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usd: float
    seconds: float

    def as_json(self) -> JsonObject:
        """Without the fields by which nothing is grouped."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_usage(
    connection: sqlite3.Connection,
    by: Sequence[GroupBy] = ("key", "model", "day"),
    since: datetime.date | None = None,
    until: datetime.date | None = None,
    key: str | None = None,
    model: str | None = None,
) -> list[UsageSum]:
    """Sums in the order of the groups; without any, one row. `since` and `until`: days in UTC, both included."""
    where, values = ["1"], []
    for condition, value in (
        ("requests.started_at >= ?", _midnight(since)),
        ("requests.started_at < ?", _midnight(until + datetime.timedelta(days=1) if until else None)),
        (f"{_GROUPS['key']} = ?", key),
        ("requests.model = ?", model),
    ):
        if value is not None:
            where.append(condition)
            values.append(value)
    groups = [_GROUPS[name] for name in by]
    outcomes = [f"sum(outcome='{outcome}')" for outcome in (*ENDED, "running")]
    sums = [f"coalesce(sum({name}), 0)" for name in _COUNTS]
    found = connection.execute(
        f"SELECT {', '.join([*groups, 'count(*)', *outcomes, *sums])} FROM requests"
        f" LEFT JOIN keys USING (key_id) WHERE {' AND '.join(where)}"
        + (f" GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""),
        values,
    )
    rows = []
    for row in found:
        values = list(row[: len(by)]) + [value or 0 for value in row[len(by) :]]
        named: dict[str, Any] = dict(zip([*by, *_FIELDS], values, strict=True))
        nano = named.pop("nano_usd")
        rows.append(UsageSum(**{**dict.fromkeys(_GROUPS), **named}, usd=nano / NANO))
    return rows


def usage_csv(rows: Sequence[UsageSum], by: Sequence[GroupBy]) -> str:
    """As CSV with a heading. A name that a spreadsheet would take for a formula gets a leading apostrophe."""
    names = [name for name in UsageSum.__annotations__ if name not in _GROUPS or name in by]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = row.as_json()
        writer.writerow([_no_formula(values[name]) for name in names])
    return text.getvalue()


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _midnight(day: datetime.date | None) -> float | None:
    if day is None:
        return None
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp()
