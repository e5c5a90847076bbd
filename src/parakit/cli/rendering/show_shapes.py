"""The shapes of the files that `parakit show` reads, as far as it prints them: a damaged one is refused by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from parakit.common.files import JsonObject
from parakit.common.json_reading import parse_json

MAX_LINE = 16 << 20  # bytes of one row


class SplitCounts(BaseModel):
    """A split of a corpus."""

    documents: int


class SkippedEntry(BaseModel):
    """A file that was left out."""

    source: str
    reason: str


class CorpusReport(BaseModel):
    """report.json of a corpus."""

    splits: dict[str, SplitCounts | int]
    skipped: dict[str, int] = {}
    skipped_files: list[SkippedEntry] = []


class CountReport(BaseModel):
    """report.json of conversations."""

    splits: dict[str, int]


class PreferenceReport(BaseModel):
    """report.json of preferences."""

    splits: dict[str, int]
    completions: int
    duplicates: int
    skipped_rows: dict[str, int]


class ExampleSplit(BaseModel):
    """A split of examples."""

    examples: int
    labels: JsonObject = {}


class ExampleReport(BaseModel):
    """report.json of examples."""

    splits: dict[str, ExampleSplit]


class ShardSplit(BaseModel):
    """A split of token shards."""

    n_documents: int
    n_tokens: int
    n_bytes: int
    has_loss_mask: bool


class ShardIndex(BaseModel):
    """index.json of token shards."""

    splits: dict[str, ShardSplit]
    vocab_size: int
    dtype: str
    tokenizer_digest: str


class LineageSuite(BaseModel):
    """A model's result on a suite."""

    accuracy: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class EvaluationResults(BaseModel):
    """results.json of an evaluation."""

    loss: dict[str, JsonObject] | None = None
    evaluations: list[JsonObject] | None = None
    suites: dict[str, LineageSuite | dict[str, LineageSuite]] | None = None
    benchmarks: dict[str, JsonObject] | None = None


class AttackFigures(BaseModel):
    """How many attacks of a category succeed."""

    success: float | None
    low: float | None
    high: float | None
    n: int


class RedTeamResults(BaseModel):
    """results.json of a red-team report."""

    judge: str
    categories: dict[str, dict[str, AttackFigures]]


class RatingInterval(BaseModel):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class RatingRow(BaseModel):
    """A model's rating and record."""

    model: str
    bradley_terry: RatingInterval
    elo: RatingInterval
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


class LineageSample(BaseModel):
    """A completion in a model's lineage."""

    prompt: str
    completion: str


class ModelResult(BaseModel):
    """The result in a model's lineage."""

    files: JsonObject | None = None
    samples: list[LineageSample] | None = None
    expert_load: dict[str, list[float]] | None = None


class Turn(BaseModel):
    """A turn of a conversation."""

    role: str
    content: str


class TextRow(BaseModel):
    """A document."""

    text: str


class RankingRow(BaseModel):
    """A prompt with its ranked answers."""

    prompt: list[Turn]
    ranking: list[str]


def first_rows(path: Path, shape: Any, n: int) -> list[Any]:
    """The first `n` rows of a JSONL file, each of this shape."""
    rows: list[Any] = []
    with open(path, "rb") as file:
        while len(rows) < n and (line := file.readline(MAX_LINE)):
            rows.append(parse_json(line, f"{path}, row {len(rows) + 1}", shape))
    return rows
