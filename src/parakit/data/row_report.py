"""The report of reading rows: rows without anything to train on, by reason, and keys that nothing reads, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from parakit.common.files import JsonObject

MAX_LOCATIONS, MAX_SHOWN = 20, 5
MAX_KEYS = 1_000  # names in a report: a file of a million different keys does not fill memory
OTHER_KEYS = "(other keys)"


class UninformativeExample(Exception):
    """A valid row without anything to train on; `reason` says why, in a few words that rows share."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass
class RowReport:
    """How many rows were skipped by reason, with the first locations of each, and in how many rows each key was
    ignored.
    """

    counts: dict[str, int] = field(default_factory=dict)
    locations: dict[str, list[str]] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, where: str | None = None) -> None:
        """Count one skipped row; `where` is None where its location is of no use."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        known = self.locations.setdefault(reason, [])
        if where is not None and len(known) < MAX_LOCATIONS:
            known.append(where)

    def ignore(self, keys: Iterable[str]) -> None:
        """Count one row with `keys` that nothing reads."""
        count_keys(self.ignored, keys)

    @property
    def total(self) -> int:
        """All skipped rows."""
        return sum(self.counts.values())

    def to_dict(self) -> JsonObject:
        """The keys of a set's report, without those that are empty."""
        values = {
            "skipped_rows": self.counts,
            "skipped_locations": self.locations,
            "ignored_keys": self.ignored,
        }
        return {name: value for name, value in values.items() if value}

    def reasons(self) -> str:
        """What was left out, for the message of an error; "" where that is nothing."""
        return "".join(f"; {line}" for line in skip_summary(self.to_dict()))


def count_keys(counts: dict[str, int], keys: Iterable[str], rows: int = 1) -> None:
    """Add `rows` to the count of each key; keys beyond the limit share one count."""
    for key in keys:
        name = key if key in counts or len(counts) < MAX_KEYS else OTHER_KEYS
        counts[name] = counts.get(name, 0) + rows


def skip_summary(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each reason in a set's `report.json`, with the first locations of each, and one of the ignored keys:
    "ignored: source (40 rows), id (40 rows)".
    """
    for reason, n in report.get("skipped_rows", {}).items():
        locations = report.get("skipped_locations", {}).get(reason, [])
        more = ", ..." if n > MAX_SHOWN else ""
        yield f"{n:,} left out: {reason}" + (
            f" ({', '.join(locations[:MAX_SHOWN])}{more})" if locations else ""
        )
    ignored = sorted(report.get("ignored_keys", {}).items(), key=lambda item: -item[1])
    if ignored:
        shown = [f"{key} ({n:,} {'row' if n == 1 else 'rows'})" for key, n in ignored[: 4 * MAX_SHOWN]]
        more = f", and {len(ignored) - len(shown):,} more keys" if len(ignored) > len(shown) else ""
        yield f"ignored: {', '.join(shown)}{more}"
