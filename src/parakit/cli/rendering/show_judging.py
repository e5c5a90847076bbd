"""What `parakit show` reports of a judging run: ratings or grades."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from parakit.common.files import JsonObject, read_json
from parakit.reports.judging import grade_rows


class RatingInterval(BaseModel):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class RatingRow(BaseModel):
    """A model's rating and record."""

    model: str
    bradley_terry: RatingInterval
    wins: int
    ties: int
    losses: int


class GradeScore(RatingInterval):
    """A mean grade."""

    n: int


class GradedModel(BaseModel):
    """A model's grades, in the form of a benchmark's result."""

    main: str
    scores: dict[str, GradeScore]


class JudgingResults(BaseModel):
    """results.json of a judging run."""

    judge: str
    ratings: list[RatingRow] = []
    benchmarks: dict[str, GradedModel] = {}


def describe_judging(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """One line, and a row for each model, best first."""
    results = read_json(path / "results.json", JudgingResults)
    rated = [
        {
            "model": row["model"],
            "rating": round(row["bradley_terry"]["value"]),
            "95 % interval": f"{row['bradley_terry']['low']:.0f} to {row['bradley_terry']['high']:.0f}",
            "won": row["wins"],
            "tied": row["ties"],
            "lost": row["losses"],
        }
        for row in results.get("ratings", [])
    ]
    graded = [
        {
            "model": row["model"],
            "grade": f"{row['value']:.2f}",
            "95 % interval": f"{row['low']:.2f} to {row['high']:.2f}",
            "answers": row["n"],
        }
        for row in grade_rows(results)
    ]
    return f"models judged by {results['judge']}", {"models": rated or graded}, {}
