"""The files that reading left out: how many by reason and kind first, then some of each, and where all are listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from parakit.data.readers.skip_reasons import way_to_include

N_EXAMPLES, N_KINDS = 3, 4


def skipped_by_reason(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each reason, the most frequent first: its files, their kinds (by the end of the name), and examples."""
    named: dict[str, list[dict[str, str]]] = {}
    for entry in report.get("skipped_files", []):
        named.setdefault(entry["reason"].partition(": ")[0], []).append(entry)
    rows = []
    for reason, n in sorted(report.get("skipped", {}).items(), key=lambda item: (-item[1], item[0])):
        entries = named.get(reason, [])
        rows.append(
            {
                "reason": reason,
                "files": n,
                "kinds": _kinds(entries),
                "examples": _examples(reason, entries, n),
            }
        )
    return rows


def skipped_lines(report: Mapping[str, Any], folder: str) -> Iterator[str]:
    """For the terminal; `folder` has the report with the whole list."""
    rows = skipped_by_reason(report)
    if not rows:
        return
    total = sum(row["files"] for row in rows)
    counts = "; ".join(f"{row['reason']} {row['files']:,} ({row['kinds']})" for row in rows)
    yield f"{total:,} files and folders left out: {counts}"
    for row in rows:
        way = way_to_include(row["reason"])
        yield f"  {row['reason']}: {row['examples']}" + (f"; to include: {way}" if way else "")
    n_named = len(report.get("skipped_files", []))
    all_of_them = "all of them" if n_named == total else f"the first {n_named:,}"
    yield f"  {all_of_them}: skipped_files in {PurePath(folder) / 'report.json'}"


def reading_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """For the terminal: the kinds of files that were read, and what was found in them."""
    formats = sorted(report.get("formats", {}).items(), key=lambda item: (-item[1], item[0]))
    if [name for name, _ in formats] not in ([], ["text"]):
        yield f"read: {', '.join(f'{name} {n:,}' for name, n in formats)}"
    fields = list(report.get("found_fields", {}).items())
    for name, field in fields[:N_EXAMPLES]:
        yield f"  {name}: the text is in {field}, found by its length; text_field or text_template name it"
    if len(fields) > N_EXAMPLES:
        yield f"  {len(fields) - N_EXAMPLES:,} more files with a field that was found: found_fields in report.json"
    licences = Counter(report.get("licences", {}).values())
    if licences:
        yield f"licences: {', '.join(f'{name} {n:,}' for name, n in licences.most_common())}"
    for name in report.get("changed_files", [])[:N_EXAMPLES]:
        yield f"  {name}: changed while it was read; read it again"


def _kinds(entries: list[dict[str, str]]) -> str:
    """`.png 12, .jpg 3, others 2`."""
    counts = Counter(PurePath(entry["source"]).suffix.lower() or "no suffix" for entry in entries)
    shown = counts.most_common(N_KINDS)
    others = counts.total() - sum(n for _, n in shown)
    return ", ".join([f"{kind} {n:,}" for kind, n in shown] + ([f"others {others:,}"] if others else []))


def _examples(reason: str, entries: list[dict[str, str]], n: int) -> str:
    """The first files of each kind in turn, with what is particular to each."""
    by_kind: dict[str, list[dict[str, str]]] = {}
    for entry in entries:
        by_kind.setdefault(PurePath(entry["source"]).suffix.lower(), []).append(entry)
    turns = [each[i] for i in range(N_EXAMPLES) for each in by_kind.values() if i < len(each)]
    shown = [
        entry["source"] + (f" ({detail})" if (detail := entry["reason"][len(reason) + 2 :]) else "")
        for entry in turns[:N_EXAMPLES]
    ]
    return ", ".join(shown) + (", ..." if n > len(shown) else "")
