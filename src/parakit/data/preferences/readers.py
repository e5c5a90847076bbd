"""Rankings from files, each row checked as it is read: JSON lines, a JSON array or Parquet, plain or gzipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.data.preferences.formats import UninformativeExample, parse_ranking
from parakit.data.preferences.rankings import Ranking
from parakit.data.readers.rows import read_records
from parakit.data.skipped_rows import SkippedRows


def read_preferences(path: str | Path, skipped: SkippedRows) -> Iterator[tuple[str, Ranking]]:
    """Stream the rankings of one file, each with its location ("pairs.jsonl, row 7"). Rows without anything to learn
    are counted in `skipped`; the first of an unknown format is a `UserError`.
    """
    for where, row in read_records(path):
        try:
            yield where, parse_ranking(row, where)
        except UninformativeExample as error:
            skipped.add(error.reason, where)
