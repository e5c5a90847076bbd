"""What the cleaning steps of a corpus did, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parakit.common.files import JsonObject

MAX_REASONS = 5


def cleaning_lines(report: JsonObject) -> Iterator[str]:
    """A line for each step that did something: "language: 12 documents left out (French: 12), 34,567 characters removed"."""
    for one in report.get("cleaning", []):
        done = [f"{one['n_changed']:,} documents changed"] if one["n_changed"] else []
        if one["n_left_out"]:
            done.append(f"{one['n_left_out']:,} documents left out{_reasons(one)}")
        if one["chars_removed"]:
            done.append(f"{one['chars_removed']:,} characters removed")
        if done:
            yield f"{one['step']}: {', '.join(done)}"


def _reasons(one: dict[str, Any]) -> str:
    reasons = sorted(one["reasons"].items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{reason}: {n:,}" for reason, n in reasons[:MAX_REASONS]]
    more = [f"{len(reasons) - MAX_REASONS} more reasons"] if len(reasons) > MAX_REASONS else []
    return f" ({', '.join(shown + more)})" if shown else ""
