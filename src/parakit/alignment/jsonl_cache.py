"""A JSON-lines cache for resumable work: each row is on disk as soon as it is computed.

Rows have an `id`, and in the file the sha256 of their content. A last line that a kill cut short is dropped and computed
again; any other line that is not as it was written is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from parakit.common.errors import CorruptArtifact
from parakit.common.files import JsonObject, disk_errors
from parakit.common.settings import canonical_json

CachedRow = JsonObject
Item = TypeVar("Item")


class JsonlCache:
    """Rows by id in an append-only file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, CachedRow] = {}
        complete = b""
        if path.exists():
            content = path.read_bytes()
            complete = content[: content.rfind(b"\n") + 1]
            if len(complete) < len(content):
                with open(path, "rb+") as file:
                    file.truncate(len(complete))
        for number, line in enumerate(complete.splitlines(), 1):
            try:
                row = json.loads(line)
                if row.pop("sha256") != _sha256(row):
                    raise ValueError("the content has changed")
                self.rows[row["id"]] = row
            except (ValueError, KeyError, TypeError, AttributeError):
                raise CorruptArtifact(
                    f"{path}: line {number} is corrupt", "delete the line, or the file to start over"
                ) from None

    def add(self, rows: Iterable[CachedRow]) -> None:
        """Append rows; they are on disk when this returns."""
        new = list(rows)
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", newline="\n") as file:
                rows = (row | {"sha256": _sha256(row)} for row in new)
                file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
                file.flush()
                os.fsync(file.fileno())
        self.rows |= {row["id"]: row for row in new}


def _sha256(row: CachedRow) -> str:
    return hashlib.sha256(canonical_json(row).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def cached_map(
    path: Path,
    items: Sequence[Item],
    id_of: Callable[[Item], str],
    compute: Callable[[Sequence[Item]], Sequence[CachedRow]],
    chunk_size: int = 64,
    has_time: Callable[[], bool] = lambda: True,
) -> list[CachedRow]:
    """The row of every item, in order: from the file, else from `compute`, `chunk_size` items at a time. `compute` returns
    a row for each item, without its `id`. Where `has_time` is false, no further chunk is computed, and the items that
    have no row are left out.
    """
    cache = JsonlCache(path)
    missing = [item for item in items if id_of(item) not in cache.rows]
    for start in range(0, len(missing), chunk_size):
        if cache.rows and not has_time():
            break
        chunk = missing[start : start + chunk_size]
        rows = compute(chunk)
        cache.add({"id": id_of(item), **row} for item, row in zip(chunk, rows, strict=True))
    return [cache.rows[id_of(item)] for item in items if id_of(item) in cache.rows]
