"""Rows that were understood and have nothing to teach: counted by reason, the first of each named."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_NAMED = 20


@dataclass
class LeftOut:
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
