"""The Python API of everything that trains: a build, and each kind of stage. The commands build the same jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from parakit.alignment.config import AlignConfig
from parakit.checkpoints.loading import read_config
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Config, Family
from parakit.compression.config import DistillConfig
from parakit.compression.quantization.config import QuantizeConfig
from parakit.primer.config import PrimerSuitesConfig
from parakit.recipe.build_folder import resolve_model_folder
from parakit.recipe.builder import build as run_build
from parakit.recipe.builder import built_in_recipe, load_recipe, recipe_for_model, recipe_for_text
from parakit.recipe.config import RecipeConfig, parse_time
from parakit.recipe.sweeps.plan import plan_sweep
from parakit.recipe.sweeps.results import report
from parakit.recipe.sweeps.running import run_sweep
from parakit.reports.summary_schema import BuildSummary
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.job import run_job
from parakit.stages.job_builders import align as run_alignment
from parakit.stages.job_builders import align_job, distill_job, finetune_job, output_folder, pretrain_job
from parakit.stages.quantization.running import quantize_folder, recorded_suites
from parakit.training.task_names import OBJECTIVES

Settings = TypeVar("Settings", bound=Config)


def build(
    recipe: str | Path | RecipeConfig | None = None,
    *,
    text: Sequence[str | Path] = (),
    model: str | Path | None = None,
    builds: str | Path = "builds",
    settings: Mapping[str, Any] | None = None,
) -> BuildSummary:
    """Run a recipe's stages in `builds`/NAME and return the summary; stages whose inputs are unchanged are skipped.

    `recipe`: a recipe file; None: a recipe that begins with the trained `model` (a folder, a GGUF file, hub:ORG/NAME),
    one for `text` (files and folders), or the built-in one. `settings` override the recipe's, under dotted keys:
    {"pretrain.max_steps": 100}. Raises `UserError` for unknown keys, missing files and what a stage refuses.
    """
    if not isinstance(recipe, RecipeConfig):
        return run_build(_recipe(recipe, text, model, settings or {}), Path(builds))
    if text or model or settings:
        raise UserError("text, a model or settings were given with a RecipeConfig", "set them in the recipe")
    return run_build(recipe, Path(builds))


def sweep(
    recipe: str | Path | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    parallel: int = 1,
    text: Sequence[str | Path] = (),
    model: str | Path | None = None,
    builds: str | Path = "builds",
    settings: Mapping[str, Any] | None = None,
) -> JsonObject:
    """Build a recipe once for each of `seeds` (how many, or which) and each combination of the values of `vary`, by dotted
    key: {"pretrain.learning_rate": [0.01, 0.02]}; a stage that several runs share is made once. Returns every figure with
    mean and 95 % interval over the seeds (`figures`), and what became of each run (`runs`).

    `recipe`, `text`, `model`, `builds` and `settings` are those of `build`; `parallel`: runs at the same time. Report and
    tables are in `builds`/NAME/sweep. A call that was interrupted resumes when it is repeated; a run that fails stops no
    other. Raises `UserError` for runs that would be the same, and for another sweep in the same folder.
    """
    planned = plan_sweep(
        lambda varied: _recipe(recipe, text, model, {**(settings or {}), **varied}),
        Path(builds),
        seeds,
        vary or {},
        fetch=True,
    )
    failures = {one.run: one.message for one in run_sweep(planned, parallel) if one.status == "failed"}
    return report(planned, failures)[0].to_dict()


def _recipe(
    recipe: str | Path | None,
    text: Sequence[str | Path],
    model: str | Path | None,
    settings: Mapping[str, Any],
) -> RecipeConfig:
    """The recipe of a file, for a model, for text, or the built-in one, with `settings` laid over it."""
    if recipe is not None and (text or model):
        what, key = ("text", "text.paths") if text else ("a model", "start")
        raise UserError(f"both a recipe and {what} were given", f"name it in the recipe, under {key}")
    paths = [str(path) for path in text]
    if model:
        return recipe_for_model(str(model), paths, settings)
    return recipe_for_text(paths, settings) if text else load_recipe(recipe or built_in_recipe(), settings)


def pretrain(
    shards: str | Path,
    *,
    out: str | Path,
    tokenizer: str | Path | None = None,
    family: Family | None = None,
    architecture: str | None = None,
    size: str | None = None,
    time: str | None = None,
    max_seq_len: int | None = None,
    overwrite: bool = False,
    config: PretrainConfig | None = None,
    **settings: Any,
) -> JsonObject:
    """Train a new model on a folder of token shards and write the model folder `out`; returns the figures.

    A new model has the tokenizer of the shards, a `size` ("5m" parameters; None: what `time`, "10min", can train), a
    `family` and a context window of `max_seq_len`. `settings` are the fields of `PretrainConfig` (objective, max_steps,
    learning_rate, ...), or a `config`. model=FOLDER continues that model instead. An interrupted call resumes when it is
    repeated. Raises `UserError` for settings that do not fit together, and for what the doctor finds.
    """
    if config is None and "objective" not in settings:
        model = settings.get("model")
        settings["objective"] = OBJECTIVES[read_config(model).family if model else family or "decoder"][0]
    training = _config(PretrainConfig, config, settings, "pretrain")
    with output_folder(out, overwrite) as (folder, work):
        job = pretrain_job(
            shards,
            work,
            training,
            tokenizer=tokenizer,
            family=family,
            architecture=architecture,
            size=size,
            max_seq_len=max_seq_len,
            seconds=parse_time(time) if time else None,
        )
        return run_job(job, folder, overwrite)


def finetune(
    model: str | Path,
    *,
    out: str | Path,
    conversations: Sequence[str | Path] = (),
    shares: Sequence[float] = (),
    examples: Sequence[str | Path] = (),
    validation_examples: Sequence[str | Path] = (),
    test_examples: Sequence[str | Path] = (),
    overwrite: bool = False,
    config: FinetuneConfig | None = None,
    **settings: Any,
) -> JsonObject:
    """Fine-tune a model for chat on `conversations`, or for another task on `examples`: files, or one folder.

    `settings` are the fields of `FinetuneConfig` (task, method, epochs, learning_rate, ...), or a `config`. Writes the
    model folder (or adapter folder) `out` and returns the figures. Resumes and errors as for `pretrain`.
    """
    training = _config(FinetuneConfig, config, settings, "finetune")
    with output_folder(out, overwrite) as (folder, work):
        job = finetune_job(
            resolve_model_folder(model),
            work,
            training,
            conversations=conversations,
            shares=shares,
            examples=examples,
            validation_examples=validation_examples,
            test_examples=test_examples,
        )
        return run_job(job, folder, overwrite)


def align(
    model: str | Path,
    *,
    out: str | Path,
    preferences: Sequence[str | Path] = (),
    overwrite: bool = False,
    config: AlignConfig | None = None,
    **settings: Any,
) -> JsonObject:
    """Align a model: a reward model or DPO on `preferences` (files, or one folder), or a policy on prompts.

    `settings` are the fields of `AlignConfig`: method (reward, dpo, ppo, grpo, best_of_n, constitution), prompts, reward,
    kl_coef, ..., or a `config`. Writes the model folder `out` and returns the figures. Resumes and errors as for
    `pretrain`.
    """
    training = _config(AlignConfig, config, settings, "align")
    with output_folder(out, overwrite) as (folder, work):
        job = align_job(resolve_model_folder(model), work, training, preferences=preferences)
        return run_alignment(job, folder, overwrite)


def distill(
    teacher: str | Path,
    *,
    out: str | Path,
    conversations: Sequence[str | Path] = (),
    shards: str | Path | None = None,
    teacher_logits: str | Path | None = None,
    overwrite: bool = False,
    config: DistillConfig | None = None,
    **settings: Any,
) -> JsonObject:
    """Train a smaller model on a teacher's probabilities, on `conversations` or on token `shards`.

    `settings` are the fields of `DistillConfig` (keep_layers, size, student, distill_temperature, ...), or a `config`.
    `teacher_logits`: a folder that caches the teacher's logits. Writes the model folder `out` and returns the figures.
    Resumes and errors as for `pretrain`.
    """
    folder = resolve_model_folder(teacher)
    if config is None and "objective" not in settings and read_config(folder).family == "encoder":
        settings["objective"] = "masked"
    training = _config(DistillConfig, config, settings, "distill")
    with output_folder(out, overwrite) as (output, work):
        job = distill_job(
            folder, work, training, conversations=conversations, shards=shards, teacher_logits=teacher_logits
        )
        return run_job(job, output, overwrite)


def quantize(
    model: str | Path,
    *,
    out: str | Path,
    suites: Literal["recorded", "none"] | Mapping[str, Any] = "recorded",
    overwrite: bool = False,
    config: QuantizeConfig | None = None,
    **settings: Any,
) -> JsonObject:
    """Quantize a model's weights to int8 or int4 and write the model folder `out`; returns the figures.

    `settings` are the fields of `QuantizeConfig` (bits, method, size_budget, calibration, ...), or a `config`. `suites`, run
    before and after: those of the build that the model is in ("recorded"), none, or the fields of the primer's. Raises
    `QualityLoss` with all figures where a suite falls by more than a point, unless accept_loss=True, and `UserError` for a
    model or settings that do not fit; nothing is written then.
    """
    folder = resolve_model_folder(model)
    quantization = _config(QuantizeConfig, config, settings, "quantize")
    if isinstance(suites, str):
        primer = recorded_suites(folder) if suites == "recorded" else None
    else:
        primer = PrimerSuitesConfig.parse(suites, "suites")
    with output_folder(out, overwrite) as (output, _):
        return quantize_folder(folder, output, quantization, suites=primer, overwrite=overwrite)


def _config(group: type[Settings], config: Settings | None, settings: JsonObject, where: str) -> Settings:
    """The config given, or the one of the settings."""
    if config is None:
        return group.parse(settings, where)
    if settings:
        raise UserError(
            f"{where}: a config was given, and also {', '.join(settings)}", "use config.replace(...)"
        )
    return config
