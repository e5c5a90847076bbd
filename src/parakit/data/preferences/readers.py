"""Rankings from files, each row checked as it is read: JSON lines, a JSON array or Parquet, plain or gzipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.data.preferences.formats import HINT, parse_ranking
from parakit.data.preferences.rankings import Ranking
from parakit.data.readers.rows import read_records, read_rows
from parakit.data.row_report import RowReport


def read_preferences(path: str | Path, report: RowReport) -> Iterator[tuple[str, Ranking]]:
    """Stream the rankings of one file, each with its location ("pairs.jsonl, row 7"). Rows without anything to learn,
    and keys that are not read, are counted in `report`; the first row of an unknown format is a `UserError`.
    """
    return read_rows(read_records(path), lambda row: parse_ranking(row, row.where), report, HINT)
