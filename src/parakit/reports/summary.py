"""The summary of a build: everything that machines and the report page want, gathered from the artifacts'
own lineages.

`stages.<stage>` holds what the stage measured, `suites.<suite>.<model>` accuracy and interval. Nothing is
remembered elsewhere, so a build whose stages were all skipped gives the same summary.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parakit.common.artifacts import open_artifact
from parakit.common.files import read_json
from parakit.common.hardware import describe_hardware, parakit_version, versions
from parakit.recipe.config import RecipeConfig
from parakit.recipe.stage_list import models_of, stages_of


def summarize(recipe: RecipeConfig, folder: Path) -> dict[str, Any]:
    """Read every stage's lineage below the build folder and put the figures in one mapping."""
    artifacts = {
        stage.name: open_artifact(folder / stage.name, verify=False) for stage in stages_of(recipe, folder)
    }
    stages = {name: _figures(name, artifact.path, artifact.lineage) for name, artifact in artifacts.items()}
    measured = stages.pop("evaluate")
    stages["evaluate"] = {"seconds": measured["seconds"]}
    models = models_of(recipe)
    for model, stage in models.items():
        stages[stage]["samples"] = measured["samples"].get(model, [])
    return {
        "name": recipe.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": parakit_version(),
        "versions": versions(),
        "hardware": describe_hardware(),
        "recipe": recipe.model_dump(mode="json"),
        "seconds": sum(figures["seconds"] for figures in stages.values()),
        "models": models,
        "stages": stages,
        "suites": measured["suites"],
        "suite_mean": measured["suite_mean"],
        "chance": measured["chance"],
        "against_parent": measured["against_parent"],
        "evaluations": measured["evaluations"],
        "task": measured.get("task"),
        "lineage": [
            _lineage_row(name, artifact.path, artifact.lineage) for name, artifact in artifacts.items()
        ],
    }


def _figures(stage: str, path: Path, lineage: dict[str, Any]) -> dict[str, Any]:
    """A stage's own measurements, with the seconds of the whole stage."""
    result = dict(lineage["result"])
    if stage == "corpus":
        result |= _corpus_figures(path)
    if stage in ("shards", "conversation_shards"):
        result = {"tokens": sum(split["n_tokens"] for split in result.values()), "splits": result}
    if stage == "examples":
        result = {"examples": sum(split["examples"] for split in result["splits"].values())} | result
    if stage == "example_shards":
        tokens = sum(n for split in result.values() for n in split["tokens"].values())
        result = {"tokens": tokens, "splits": result}
    seconds = max(lineage["seconds"], result.get("seconds", 0.0))
    return result | {"seconds": round(seconds, 2), "path": str(path), "digest": lineage["digest"]}


def _corpus_figures(path: Path) -> dict[str, Any]:
    report = read_json(path / "report.json")
    train = report["splits"]["train"]
    skipped = report.get("skipped_files", [])
    return {
        "documents": sum(split["documents"] for split in report["splits"].values()),
        "bytes": sum(split["bytes"] for split in report["splits"].values()),
        "train_documents": train["documents"],
        "bad_bytes": report.get("bad_bytes", 0),
        "duplicates": report.get("duplicates", 0),
        "skipped": [f"{entry['source']}: {entry['reason']}" for entry in skipped],
    }


def _lineage_row(stage: str, path: Path, lineage: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": stage,
        "kind": lineage["kind"],
        "digest": lineage["digest"],
        "parents": [parent["digest"] for parent in lineage["parents"]],
        "path": str(path),
        "seconds": lineage["seconds"],
    }
