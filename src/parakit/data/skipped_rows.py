"""Counts of valid rows without anything to train on, by reason, with the first example of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from parakit.common.files import JsonObject

MAX_LOCATIONS, MAX_SHOWN = 20, 5


@dataclass
class SkippedRows:
    """How many rows by reason, and the first locations of each."""

    counts: dict[str, int] = field(default_factory=dict)
    locations: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, where: str | None = None) -> None:
        """Count one row; `where` is None where its location is of no use."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        known = self.locations.setdefault(reason, [])
        if where is not None and len(known) < MAX_LOCATIONS:
            known.append(where)

    @property
    def total(self) -> int:
        """All skipped rows."""
        return sum(self.counts.values())

    def to_dict(self) -> JsonObject:
        """The two keys of a set's report."""
        return {"skipped_rows": self.counts, "skipped_locations": self.locations}


def skip_summary(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each reason in a set's `report.json`, with the first locations of each."""
    for reason, n in report.get("skipped_rows", {}).items():
        locations = report.get("skipped_locations", {}).get(reason, [])
        more = ", ..." if n > MAX_SHOWN else ""
        yield f"{n:,} left out: {reason}" + (
            f" ({', '.join(locations[:MAX_SHOWN])}{more})" if locations else ""
        )
