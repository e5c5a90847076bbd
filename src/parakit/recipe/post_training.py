"""The stages after fine-tuning: preferences, every step of alignment, the distilled student, the quantized model.

A step of alignment begins with the model of the step before, and is a folder named after its method. A reward model is
not part of that sequence: later steps are rewarded by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parakit.alignment.config import AlignConfig, ConstitutionConfig, RolloutConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.processes import first_alone
from parakit.common.progress import log
from parakit.compression.quantization.config import Calibration
from parakit.recipe.build_folder import REWARD, chat_stage_names
from parakit.recipe.build_time import BuildTime
from parakit.recipe.config import RecipeConfig
from parakit.recipe.graph import Stage, fingerprint, outside_folders
from parakit.recipe.start_plan import base_stage
from parakit.training.config import TrainingConfig


def post_training_stages(
    recipe: RecipeConfig, folder: Path, work: Path, times: BuildTime | None
) -> list[Stage]:
    """The stages after fine-tuning, in order."""
    stages = [_preferences(recipe)] if recipe.preferences is not None else []
    policy = base_stage(recipe, "align")
    assert policy is not None, "alignment and distillation begin with a trained model"
    for step in recipe.align:
        stages.append(_align(recipe, step, policy, folder, work, times))
        policy = policy if step.method == REWARD else step.method
    if recipe.distill is not None:
        stages.append(_distill(recipe, policy, folder, work, times))
    if recipe.quantize is not None:
        stages.append(_quantize(recipe, "distill" if recipe.distill else policy, folder))
    return stages


def post_training_models(recipe: RecipeConfig) -> dict[str, str]:
    """The language models of these stages, each by the name of its stage."""
    names = chat_stage_names(
        (step.method for step in recipe.align), recipe.distill is not None, recipe.quantize is not None
    )
    return {name: name for name in names}


def seeded(training: TrainingConfig, seed: int) -> Any:
    """The recipe's seed, unless the stage has its own."""
    return training if "seed" in training.model_fields_set else training.replace(seed=seed)


def _preferences(recipe: RecipeConfig) -> Stage:
    config = recipe.preferences
    assert config is not None
    settings = {"preferences": config.model_dump(mode="json"), "inputs": fingerprint(config.paths)}

    def run(out: Path) -> None:
        from parakit.stages.data import make_preferences

        make_preferences(config.primer or config.paths, out, config.validation_fraction, overwrite=True)

    return Stage("preferences", settings, (), run)


def _align(
    recipe: RecipeConfig, step: AlignConfig, policy: str, folder: Path, work: Path, times: BuildTime | None
) -> Stage:
    training = seeded(step, recipe.seed)
    parents, data = [policy], "preferences"
    paths: tuple[str, ...] = ()
    if isinstance(step, RolloutConfig | ConstitutionConfig):
        data, paths = "conversations", step.prompts
    parents += [] if paths else [data]
    if isinstance(step, RolloutConfig) and step.reward is None:
        parents.append(REWARD)
        training = training.replace(reward=str(folder / REWARD))
    settings: JsonObject = {
        "training": step.replace(seed=training.seed).fingerprint(),
        "prompts": fingerprint(paths),
    }
    settings |= {"seconds": times.share(step.method)} if times else {}

    def run(out: Path) -> None:
        from parakit.stages.alignment import AlignJob
        from parakit.stages.data import make_prompts
        from parakit.stages.job_builders import align

        place = work / f"{step.method}.prompts"
        source = folder / data
        if paths:
            source = Path(first_alone("prompts", lambda: str(make_prompts(step.method, paths, place))))
        budget = times.budget(step.method) if times else None
        align(AlignJob(folder / policy, source, work / step.method, training, budget), out, overwrite=True)

    return Stage(step.method, settings, tuple(parents), run, parallel=True)


def _distill(recipe: RecipeConfig, teacher: str, folder: Path, work: Path, times: BuildTime | None) -> Stage:
    assert recipe.distill is not None
    training = seeded(recipe.distill, recipe.seed)
    shards = "conversation_shards" if recipe.task == "chat" else "shards"
    settings = {"training": training.fingerprint()} | outside_folders(training)
    settings |= {"seconds": times.share("distill")} if times else {}

    def run(out: Path) -> None:
        from parakit.stages.distillation import DistillJob
        from parakit.stages.job import run_job

        budget = times.budget("distill") if times else None
        job = DistillJob(folder / teacher, folder / shards, work / "distill", training, budget=budget)
        run_job(job, out, overwrite=True)

    return Stage("distill", settings, (teacher, shards), run, parallel=True)


def _quantize(recipe: RecipeConfig, model: str, folder: Path) -> Stage:
    assert recipe.quantize is not None
    config = recipe.quantize
    if isinstance(config, Calibration) and "seed" not in config.model_fields_set:
        config = config.replace(seed=recipe.seed)
    files = [*config.text, *(config.calibration if isinstance(config, Calibration) else ())]
    suites = recipe.evaluate.suites
    settings: JsonObject = {"quantization": config.model_dump(mode="json"), "inputs": fingerprint(files)}
    settings |= {"suites": suites.model_dump(mode="json") if suites else None}

    def run(out: Path) -> None:
        from parakit.compression.quantization.quantize import QualityLoss
        from parakit.reports.quantization import quantization_rows
        from parakit.stages.quantization.running import quantize_folder

        try:
            quantize_folder(folder / model, out, config, suites=suites, overwrite=True)
        except QualityLoss as loss:
            for name, before, after in quantization_rows(loss.figures):
                log(f"quantize: {name}: {before}, then {after}")
            raise UserError(str(loss), "set quantize.accept_loss, or give it more bits") from None

    return Stage("quantize", settings, (model,), run)
