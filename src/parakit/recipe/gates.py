"""The gates of a recipe: behind every stage that makes a model, a stage that evaluates it against its parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from parakit.common.files import JsonObject
from parakit.evaluation.comparison.config import GATE
from parakit.recipe.config import RecipeConfig
from parakit.recipe.graph import Stage, fingerprint
from parakit.stages.data_config import EvaluateConfig


def gates_of(recipe: RecipeConfig, models: Mapping[str, str]) -> dict[str, str]:
    """The gate's stage of every model, in pipeline order; none without a gate."""
    return {name: f"{GATE}{stage}" for name, stage in models.items()} if recipe.evaluate.gate else {}


def task_files(config: EvaluateConfig) -> list[str]:
    """The tasks that are files."""
    return [name for name in config.tasks if name.endswith((".yaml", ".yml"))]


def with_gates(
    recipe: RecipeConfig, folder: Path, stages: Sequence[Stage], models: Mapping[str, str]
) -> list[Stage]:
    """The stages with each gate behind its model, and before the stage that would use that model."""
    if recipe.evaluate.gate is None:
        return list(stages)
    found: list[Stage] = []
    parent: str | None = None
    for stage in stages:
        found.append(stage)
        if stage.name in models.values():
            found.append(_gate(recipe, folder, stage.name, parent))
            parent = found[-1].name
    return found


def _gate(recipe: RecipeConfig, folder: Path, model: str, parent: str | None) -> Stage:
    config = recipe.evaluate
    unused = {"texts", "n_beams", "contamination"} | (set() if parent else {"gate"})
    settings: JsonObject = {"evaluate": config.model_dump(mode="json", exclude=unused)}
    if files := task_files(config):
        settings["inputs"] = fingerprint(files)

    def run(out: Path) -> None:
        from parakit.stages.comparison.gate import run_gate

        run_gate(config, folder / model, folder / parent if parent else None, out, folder / "work")

    return Stage(f"{GATE}{model}", settings, (model, *([parent] if parent else [])), run)
