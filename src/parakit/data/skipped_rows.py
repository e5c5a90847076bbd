"""Rows that were understood and have nothing to teach: counted by reason, the first of each named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_NAMED, MAX_TOLD = 20, 5


@dataclass
class SkippedRows:
    """How many rows by reason, and the first places of each."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, where: str | None = None) -> None:
        """Count one row; None: where it stands says nothing."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        named = self.places.setdefault(reason, [])
        if where is not None and len(named) < MAX_NAMED:
            named.append(where)

    @property
    def total(self) -> int:
        """All rows left out."""
        return sum(self.counts.values())


def skip_summary(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each reason in a set's `report.json`, with the first places of each."""
    for reason, n in report.get("skipped_rows", {}).items():
        places = report.get("skipped_locations", {}).get(reason, [])
        more = ", ..." if n > MAX_TOLD else ""
        yield f"{n:,} left out: {reason}" + (f" ({', '.join(places[:MAX_TOLD])}{more})" if places else "")
