"""The scores of a build, with their intervals, as its summary has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import read_json

SUMMARY, REPORT, CORPUS_PAGE = "summary.json", "report.html", "corpus.html"


@dataclass(frozen=True)
class SuiteScore:
    """Of one model on one suite: a share with its 95 % interval, of `n` items."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class BuildFigures:
    """`models`: the stages that made one, by their key in the summary. `scores`: by suite, then by that key."""

    created: str = ""
    seconds: float | None = None
    models: tuple[tuple[str, str], ...] = ()
    scores: tuple[tuple[str, dict[str, SuiteScore]], ...] = ()
    chance: dict[str, float] | None = None


def build_figures(build: Path) -> BuildFigures:
    """What a finished build's summary has; an unfinished one has nothing, and so has a summary that cannot be read."""
    file = build / SUMMARY
    if not file.is_file():
        return BuildFigures()
    try:
        summary = read_json(file)
        suites = tuple((str(suite), _scores(rows)) for suite, rows in (summary.get("suites") or {}).items())
        return BuildFigures(
            str(summary.get("created") or ""),
            summary.get("seconds"),
            tuple((str(key), str(stage)) for key, stage in (summary.get("models") or {}).items()),
            suites,
            dict(summary.get("chance") or {}),
        )
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        return BuildFigures()


def _scores(rows: Any) -> dict[str, SuiteScore]:
    return {
        str(model): SuiteScore(float(row["accuracy"]), float(row["low"]), float(row["high"]), int(row["n"]))
        for model, row in rows.items()
        if isinstance(row, dict) and "accuracy" in row
    }
