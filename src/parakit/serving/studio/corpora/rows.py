"""The sets of data below a folder, and their rows, streamed: a search holds one row in memory and stops after a time.

Nothing here knows of a web page.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json
from parakit.data.readers.skip_reasons import way_to_include
from parakit.data.splits import SPLITS
from parakit.reports.formatting import humanize
from parakit.serving.studio.inventory.finding import find_folders

KINDS = {
    "corpus": "documents",
    "conversations": "conversations",
    "preferences": "rankings",
    "examples": "examples",
}
MAX_SECONDS = 8.0  # of one search
MAX_ROW_BYTES = 4_000_000  # a longer row is counted and not shown


@dataclass(frozen=True)
class DataSet:
    """A folder of rows."""

    path: Path
    kind: str
    title: str

    def splits(self) -> list[str]:
        """The splits that it has rows of."""
        return [name for name in SPLITS if (self.path / f"{name}.jsonl").is_file()]


@dataclass(frozen=True)
class FoundRows:
    """Rows with their numbers in the split, from 0. `n_found` counts those that fit up to where the search stopped."""

    rows: tuple[tuple[int, JsonObject], ...]
    n_found: int
    is_complete: bool
    n_damaged: int


def find_sets(root: Path) -> list[DataSet]:
    """The sets below `root`, by kind and path."""
    found = [
        DataSet(one.path, one.kind, " / ".join(part for part in one.name.split("/") if part != "builds"))
        for one in find_folders(root)
        if one.kind in KINDS
    ]
    return sorted(found, key=lambda one: (list(KINDS).index(one.kind), one.title))


def find_rows(one: DataSet, split: str, text: str = "", start: int = 0, n: int = 20) -> FoundRows:
    """The rows of a split that have `text`, upper or lower case, from the `start`-th on. `UserError` where the file is
    gone.
    """
    wanted = json.dumps(text, ensure_ascii=False)[1:-1].lower().encode("utf-8", "surrogatepass")
    end = time.monotonic() + MAX_SECONDS
    rows: list[tuple[int, JsonObject]] = []
    n_found = n_damaged = 0
    try:
        with (one.path / f"{split}.jsonl").open("rb") as file:
            for number, line in enumerate(file):
                if number % 256 == 255 and time.monotonic() > end:
                    return FoundRows(tuple(rows), n_found, False, n_damaged)
                if wanted and wanted not in line.decode("utf-8", "replace").lower().encode():
                    continue
                n_found += 1
                if start < n_found <= start + n:
                    row = _row(line)
                    n_damaged += row is None
                    rows.append((number, row if row is not None else {"damaged": True}))
    except OSError:
        raise UserError(
            f"{one.path}: its split {split} is gone: the folder was deleted or moved while it was shown",
            "choose another set, or restore the folder",
        ) from None
    return FoundRows(tuple(rows), n_found, True, n_damaged)


def _row(line: bytes) -> JsonObject | None:
    if len(line) > MAX_ROW_BYTES:
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


@dataclass(frozen=True)
class SkipReason:
    """A reason with how much it left out, examples, and the setting that would include it."""

    reason: str
    n: int
    unit: str
    examples: tuple[str, ...]
    way: str


def set_report(one: DataSet) -> JsonObject:
    """The report that reading wrote; empty where it cannot be read."""
    with contextlib.suppress(UserError, OSError):
        report = read_json(one.path / "report.json")
        return report if isinstance(report, dict) else {}
    return {}


def skip_reasons(report: Mapping[str, Any]) -> list[SkipReason]:
    """What was left out of a set and why, the most first: files, rows, duplicates, and what cleaning removed."""
    named: dict[str, list[str]] = {}
    for entry in report.get("skipped_files") or []:
        named.setdefault(str(entry["reason"]).partition(": ")[0], []).append(str(entry["source"]))
    found = [
        SkipReason(reason, int(n), "files", tuple(named.get(reason, [])[:5]), way_to_include(reason) or "")
        for reason, n in (report.get("skipped") or {}).items()
    ]
    locations = report.get("skipped_locations") or {}
    found += [
        SkipReason(reason, int(n), "rows", tuple(map(str, (locations.get(reason) or [])[:5])), "")
        for reason, n in (report.get("skipped_rows") or {}).items()
    ]
    for key in ("duplicates", "validation_duplicates", "near_duplicate_texts", "empty_rows", "broken_rows"):
        if n := report.get(key):
            found.append(SkipReason(humanize(key), int(n), "texts", (), ""))
    for key in ("near_duplicates", "over_max_source_share", "gap"):
        counts = report.get(key)
        if isinstance(counts, Mapping) and (n := counts.get("documents")):
            found.append(SkipReason(humanize(key), int(n), "documents", (), ""))
    for step in report.get("cleaning") or []:
        if n := step.get("n_left_out"):
            found.append(SkipReason(f"cleaning: {humanize(step['step'])}", int(n), "documents", (), ""))
    return sorted(found, key=lambda row: -row.n)


@dataclass(frozen=True)
class CleaningSample:
    """A text before and after a step of cleaning; `after` is None where the document was left out."""

    step: str
    source: str
    before: str
    after: str | None


def cleaning_samples(report: Mapping[str, Any]) -> list[CleaningSample]:
    """Some of what each step of cleaning changed."""
    return [
        CleaningSample(
            humanize(step["step"]),
            str(sample.get("source", "")),
            str(sample.get("before", "")),
            None if sample.get("after") is None else str(sample["after"]),
        )
        for step in report.get("cleaning") or []
        for sample in (step.get("samples") or [])[:3]
    ]
