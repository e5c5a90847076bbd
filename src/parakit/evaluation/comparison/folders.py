"""All scores of a model: of an evaluation folder, or of results that were just measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject
from parakit.evaluation.comparison.outcome import ModelScores
from parakit.evaluation.results import (
    PROGRAM,
    BenchmarkResult,
    Item,
    Protocol,
    digest,
    open_evaluation,
    read_benchmarks,
    summarize_items,
)

LOSS_SETTINGS = ("seq_len", "overlap", "max_document_chars", "text_start")
"""Of an evaluation's config: they decide a loss besides text and model."""
_AGAIN = "evaluate the model again: parakit evaluate MODEL --output FOLDER"


def read_scores(folder: str | Path, *, name: str | None = None) -> ModelScores:
    """The scores in an evaluation folder, under `name` or its path. `UserError` for another folder, and for one that holds no
    score.
    """
    artifact, results = open_evaluation(
        folder, "name the build's folder or one of its models: parakit compare MODEL MODEL --suites"
    )
    try:
        benchmarks = read_benchmarks(artifact.path, results)
        found = scores_of(name or str(folder), results, artifact.lineage["config"], benchmarks)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise CorruptArtifact(f"{folder}: its results cannot be read: {error!r}", _AGAIN) from None
    if not (found.benchmarks or found.suites or found.loss):
        raise UserError(f"{folder}: holds no benchmark, suite or loss to compare", _AGAIN)
    if empty := [task for task, one in {**found.benchmarks, **found.suites}.items() if not one.items]:
        raise UserError(f"{folder}: {empty[0]} has no items", _AGAIN)
    return found


def scores_of(
    name: str,
    results: Mapping[str, Any],
    config: Mapping[str, Any],
    benchmarks: Mapping[str, BenchmarkResult] | None = None,
) -> ModelScores:
    """The scores in the content of a results.json. `config`: that of the evaluation."""
    settings: JsonObject = {key: config[key] for key in LOSS_SETTINGS if key in config}
    return ModelScores(
        name,
        benchmarks or {},
        {
            suite: suite_result(suite, found["samples"], found["prompting"], config.get("max_new_tokens"))
            for suite, found in (results.get("suites") or {}).items()
        },
        {text: {**loss, "settings": settings} for text, loss in (results.get("loss") or {}).items()},
    )


def suite_result(
    suite: str, samples: Sequence[Mapping[str, Any]], prompting: str, max_new_tokens: int | None = None
) -> BenchmarkResult:
    """A primer's suite in the form of a benchmark; an item's id is its question. `samples`: fields of `SuiteAnswer`s."""
    seen: Counter[str] = Counter()
    items = []
    for sample in samples:
        question = sample["question"]
        seen[question] += 1
        again = f" #{seen[question]}" if seen[question] > 1 else ""
        scores = {"right": float(sample["correct"])}
        items.append(Item(question + again, question, sample["answer"], sample["completion"], scores))
    protocol = Protocol(
        task=f"primer/{suite}",
        version="1",
        program=PROGRAM,
        data_digest="",
        prompts_digest=digest(item.prompt for item in items),
        prompting=prompting,
        settings={} if max_new_tokens is None else {"max_new_tokens": max_new_tokens},
    )
    return summarize_items(protocol, items, "right")
