"""The report of reading data: counts and names of what was read, changed or skipped.

Counts are exact; lists of names end at a thousand, so that a folder of a million broken files does not fill memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from parakit.common.files import JsonObject
from parakit.data.documents import repair
from parakit.data.row_report import count_keys

MAX_NAMED = 1_000
MAX_ROWS = 20


@dataclass
class BrokenRows:
    """Unreadable rows of one file: how many, the first row numbers (from 1), and the first error."""

    n: int = 0
    rows: list[int] = field(default_factory=list)
    why: str = ""


@dataclass
class ReadReport:
    """Counts over all files read so far; `bytes` are raw bytes (`Document.n_bytes`)."""

    files: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    bytes: int = 0
    encodings: Counter[str] = field(default_factory=Counter)
    guessed_files: dict[str, str] = field(default_factory=dict)
    bad_bytes: int = 0
    bad_files: dict[str, int] = field(default_factory=dict)
    windows_newlines: int = 0
    headers_stripped: int = 0
    stripped_chars: int = 0
    long_lines: int = 0
    long_line_bytes: int = 0
    rows: int = 0
    ignored_keys: dict[str, int] = field(default_factory=dict)
    found_fields: dict[str, str] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    changed_files: list[str] = field(default_factory=list)
    empty_rows: int = 0
    broken_rows: int = 0
    broken_files: dict[str, BrokenRows] = field(default_factory=dict)
    quoted_lines: int = 0
    signature_lines: int = 0
    running_heads: int = 0
    scanned_pages: int = 0
    scanned_files: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    validation_duplicates: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_files: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, source: str, reason: str, detail: str = "") -> None:
        """A file or folder is left out. `reason` is one of a few that are counted; `detail` is listed with the name."""
        self.skipped[reason] += 1
        if len(self.skipped_files) < MAX_NAMED:
            why = repair(f"{reason}: {detail}" if detail else reason)[0]
            self.skipped_files.append((repair(source)[0], why))

    def count_encoding(self, source: str, name: str, guessed: bool) -> None:
        """`source` is read as text in encoding `name`; `guessed` where nothing but its letters speaks for it."""
        self.encodings[name] += 1
        if guessed and len(self.guessed_files) < MAX_NAMED:
            self.guessed_files[source] = name

    def count_bad_bytes(self, source: str, n: int) -> None:
        """`n` bytes of `source` were invalid in its encoding or NUL, each replaced by U+FFFD."""
        self.bad_bytes += n
        if source in self.bad_files or len(self.bad_files) < MAX_NAMED:
            self.bad_files[source] = self.bad_files.get(source, 0) + n

    def count_broken_row(self, source: str, row: int, why: str) -> None:
        """Row `row` of `source` could not be read."""
        self.broken_rows += 1
        if source not in self.broken_files and len(self.broken_files) >= MAX_NAMED:
            return
        broken = self.broken_files.setdefault(source, BrokenRows(why=why))
        broken.n += 1
        if len(broken.rows) < MAX_ROWS:
            broken.rows.append(row)

    def count_scanned_pages(self, source: str, n: int) -> None:
        """`n` pages of `source` are pictures without text."""
        self.scanned_pages += n
        if n and len(self.scanned_files) < MAX_NAMED:
            self.scanned_files[source] = n

    def ignore(self, keys: Iterable[str], rows: int = 1) -> None:
        """Count `rows` rows with `keys` (or columns) that are not the text."""
        count_keys(self.ignored_keys, keys, rows)

    def count_found_field(self, source: str, name: str) -> None:
        """The text of the rows of `source` is in this field, which was found and not named."""
        if len(self.found_fields) < MAX_NAMED:
            self.found_fields[source] = name

    def count_licence(self, source: str, name: str) -> None:
        """`source` is a licence, of this SPDX name."""
        if len(self.licences) < MAX_NAMED:
            self.licences[source] = name

    def count_changed(self, source: str) -> None:
        """`source` changed while it was read: its text may be of two versions."""
        if len(self.changed_files) < MAX_NAMED:
            self.changed_files.append(source)

    def count_long_line(self, n_bytes: int) -> None:
        """A line of `n_bytes` is over the limit and left out."""
        self.long_lines += 1
        self.long_line_bytes += n_bytes

    def merge(self, other: ReadReport) -> None:
        """Add what `other` counted after this one."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, int):
                setattr(self, name, mine + value)
            elif isinstance(value, Counter):
                mine.update(value)
            elif isinstance(value, dict):
                for key, one in value.items():
                    if name == "ignored_keys":
                        count_keys(mine, [key], one)
                    elif key in mine or len(mine) < MAX_NAMED:
                        mine[key] = _joined(mine.get(key), one)
        self.skipped_files = (self.skipped_files + other.skipped_files)[:MAX_NAMED]

    def to_json(self) -> JsonObject:
        """All that `from_json` needs, in plain values."""
        values = {name: value for name, value in vars(self).items() if value}
        if self.broken_files:
            values["broken_files"] = {name: vars(broken) for name, broken in self.broken_files.items()}
        return values

    @classmethod
    def from_json(cls, values: JsonObject) -> ReadReport:
        """The report that `to_json` described."""
        report = cls()
        for name, value in values.items():
            known = getattr(report, name)
            if name == "broken_files":
                value = {source: BrokenRows(**broken) for source, broken in value.items()}
            elif name == "skipped_files":
                value = [(source, reason) for source, reason in value]
            setattr(report, name, Counter(value) if isinstance(known, Counter) else value)
        return report

    def to_dict(self) -> JsonObject:
        """Plain JSON values, in the order of the fields."""
        values = dict(vars(self))
        values["broken_files"] = {name: vars(broken) for name, broken in self.broken_files.items()}
        values["encodings"] = dict(sorted(self.encodings.items()))
        values["formats"] = dict(sorted(self.formats.items()))
        values["skipped"] = dict(sorted(self.skipped.items()))
        values["skipped_files"] = [
            {"source": source, "reason": reason} for source, reason in self.skipped_files
        ]
        return values


def _joined(one: Any, other: Any) -> Any:
    """What is counted of one file in two reports."""
    if isinstance(other, BrokenRows) and one is not None:
        return BrokenRows(one.n + other.n, (one.rows + other.rows)[:MAX_ROWS], one.why)
    return one + other if isinstance(other, int) and one is not None else other
