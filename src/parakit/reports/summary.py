"""The summary of a build, read from the lineage of every stage's folder.

Nothing else is stored, so a build whose stages were all skipped gives the same summary.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from parakit.checkpoints.loading import parameter_counts, read_config
from parakit.common.artifacts import Artifact, open_artifact
from parakit.common.errors import CorruptArtifact
from parakit.common.files import JsonObject, read_json
from parakit.common.hardware import describe_hardware, parakit_version, versions
from parakit.evaluation.comparison.config import GATE
from parakit.reports.documents.summary import INDEX, index_figures
from parakit.reports.model_comparisons import compare_with_start
from parakit.reports.summary_schema import BuildSummary


def summarize(
    name: str, recipe: Mapping[str, Any], stages: Mapping[str, Path], models: Mapping[str, str]
) -> BuildSummary:
    """The summary of the build `name`. `recipe`: its settings with every default; `stages`: the folder of each stage, in
    order, `evaluate` among them; `models`: the stage of each model. Raises a pydantic error where a stage recorded a key
    that the schema does not have.
    """
    artifacts = {stage: open_artifact(folder, verify=False) for stage, folder in stages.items()}
    figures = {stage: _figures(stage, artifact) for stage, artifact in artifacts.items()}
    measured = figures.pop("evaluate")
    figures["evaluate"] = {"seconds": measured["seconds"]}
    for model, stage in models.items():
        figures[stage]["samples"] = measured["samples"].get(model, [])
    return BuildSummary.model_validate(
        {
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": parakit_version(),
            "versions": versions(),
            "hardware": describe_hardware(),
            "recipe": recipe,
            "seconds": sum(stage["seconds"] for stage in figures.values()),
            "models": models,
            "stages": figures,
            **{key: measured[key] for key in ("suites", "suite_mean", "chance", "against_parent")},
            "benchmarks": measured.get("benchmarks", {}),
            "evaluations": measured["evaluations"],
            "task": measured.get("task"),
            "task_of_start": measured.get("task_of_start"),
            "against_start": compare_with_start(measured) if "start" in models else [],
            "lineage": [_lineage_entry(stage, artifact) for stage, artifact in artifacts.items()],
        }
    )


def read_summary(path: Path) -> BuildSummary:
    """The summary in a `summary.json`; `CorruptArtifact` for one that the schema does not allow."""
    try:
        return BuildSummary.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CorruptArtifact(
            f"{path}: {where}: {first['msg']}", "run `parakit build` again, which rewrites it"
        ) from None


def _figures(stage: str, artifact: Artifact) -> JsonObject:
    """What a stage measured, with the seconds of the whole stage."""
    result = dict(artifact.lineage["result"])
    if stage == "start":
        result = _start_figures(artifact)
    if stage == INDEX:
        result = index_figures(artifact)
    if stage.startswith(GATE):  # an evaluation, whose answers the evaluate stage has too
        result = {}
    if stage in ("corpus", "replay_corpus"):
        result |= _corpus_figures(artifact.path)
    if stage in ("shards", "conversation_shards", "replay_shards"):
        result = {"tokens": sum(split["n_tokens"] for split in result.values()), "splits": result}
    if stage == "examples":
        result = {"examples": sum(split["examples"] for split in result["splits"].values())} | result
    if stage == "example_shards":
        tokens = sum(n for split in result.values() for n in split["tokens"].values())
        result = {"tokens": tokens, "splits": result}
    seconds = max(artifact.lineage["seconds"], result.get("seconds", 0.0))
    return result | {
        "seconds": round(seconds, 2),
        "path": str(artifact.path),
        "digest": artifact.digest,
    }


def _start_figures(artifact: Artifact) -> JsonObject:
    """Where the model came from, and what it is."""
    config, lineage = read_config(artifact.path), artifact.lineage
    names = ("source", "revision", "quantization", "architecture")
    source = {name: lineage["config"].get(name) for name in names}
    files = {"files": lineage["result"]["files"], "notes": lineage["result"].get("notes", [])}
    counts = parameter_counts(artifact.path)
    shape = {"parameters": counts["total"], "config": config.model_dump(mode="json")}
    return files | source | shape


def _corpus_figures(path: Path) -> JsonObject:
    report = read_json(path / "report.json")
    return {
        "documents": sum(split["documents"] for split in report["splits"].values()),
        "bytes": sum(split["bytes"] for split in report["splits"].values()),
        "train_documents": report["splits"]["train"]["documents"],
        "bad_bytes": report.get("bad_bytes", 0),
        "duplicates": report.get("duplicates", 0),
        "skipped": report.get("skipped_files", []),
    }


def _lineage_entry(stage: str, artifact: Artifact) -> JsonObject:
    return {
        "stage": stage,
        "kind": artifact.kind,
        "digest": artifact.digest,
        "parents": [parent["digest"] for parent in artifact.lineage["parents"]],
        "path": str(artifact.path),
        "seconds": artifact.lineage["seconds"],
    }
