"""JSON lines that survive an interruption: each row is written as soon as it is known, and a later run goes on.

Rows bear an `id`. A last line that was cut short by a kill is dropped and its work done again; any other line that
cannot be read is an error, for it was altered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from parakit.common.errors import CorruptArtifact
from parakit.common.files import disk_errors

CachedRow = dict[str, Any]
Item = TypeVar("Item")


class JsonlCache:
    """Rows by id in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, CachedRow] = {}
        whole = b""
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                with open(path, "rb+") as file:
                    file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self.rows[row["id"]] = row
            except (ValueError, KeyError, TypeError):
                raise CorruptArtifact(
                    f"{path}: line {number} is not what was written", "delete the file to begin anew"
                ) from None

    def add(self, rows: Iterable[CachedRow]) -> None:
        """Write rows; they are on the disk when this returns."""
        new = list(rows)
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in new)
                file.flush()
                os.fsync(file.fileno())
        self.rows |= {row["id"]: row for row in new}


def cached_map(
    path: Path,
    items: Sequence[Item],
    id_of: Callable[[Item], str],
    work: Callable[[Sequence[Item]], Sequence[CachedRow]],
    at_once: int = 64,
) -> list[CachedRow]:
    """The row of every item, in their order: from the file where it is there, else from `work`, `at_once` at a time,
    and kept. `work` returns a row for each item, without its `id`.
    """
    kept = JsonlCache(path)
    missing = [item for item in items if id_of(item) not in kept.rows]
    for start in range(0, len(missing), at_once):
        chunk = missing[start : start + at_once]
        rows = work(chunk)
        kept.add({"id": id_of(item), **row} for item, row in zip(chunk, rows, strict=True))
    return [kept.rows[id_of(item)] for item in items]
