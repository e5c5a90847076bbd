"""`parakit pretrain`: pre-train on token shards, from scratch or from a trained model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_arguments
from parakit.cli.rendering.conditions import refuse_inert
from parakit.cli.rendering.training_command import (
    RUN_FLAG_RULES,
    RunFlags,
    against_before,
    confirm_resume,
    find_rate_of,
    show_before_after,
)
from parakit.common.artifacts import open_artifact
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.remote import is_remote
from parakit.common.settings import Family
from parakit.stages.config import PretrainConfig
from parakit.training.task_names import OBJECTIVES

_FROM_SCRATCH = ("tokenizer", "family", "architecture", "size", "max_seq_len")


class PretrainCommandConfig(RunFlags):
    """Pre-train a decoder, an encoder or an encoder-decoder on token shards. --model continues a trained model, and
    --replay mixes in data that it was trained on before. The same command resumes an interrupted run.
    """

    shards: tyro.conf.Positional[str] = Field(description="The folder of token shards.")
    tokenizer: str | None = Field(
        default=None, description="The tokenizer that encoded them. Default: with --model, the model's own."
    )
    output: str = Field(description="The model folder to write.")
    family: Family = Field(
        default="decoder",
        description="decoder (GPT), encoder (BERT) or encoder-decoder (T5).",
    )
    architecture: str | None = Field(
        default=None,
        description="A published architecture of that family, for example bert. Default: Parakit's own.",
    )
    size: str | None = Field(
        default=None, description="Number of parameters, for example 5m. Default: from the time."
    )
    time: str | None = Field(default=None, description="Training time, for example 10min.")
    max_seq_len: int = Field(default=256, ge=8, description="Context window in tokens.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit pretrain` with these arguments."""
    command, training = parse_arguments(
        PretrainCommandConfig, PretrainConfig, argv, "parakit pretrain", _family_objective(argv)
    )
    from parakit.recipe.config import parse_time
    from parakit.stages.job import run_job
    from parakit.stages.job_builders import output_folder, pretrain_job

    seconds = parse_time(command.time) if command.time else None
    given = {name: getattr(command, name) for name in _FROM_SCRATCH if name in command.model_fields_set}
    refuse_inert(command, RUN_FLAG_RULES)
    with output_folder(command.output, command.overwrite) as (out, work):
        shards = (
            open_artifact(command.shards, verify=False).path if is_remote(command.shards) else command.shards
        )
        job = pretrain_job(shards, work, training, seconds=seconds, **given)
        if command.find_rate:
            return find_rate_of(job, command.output, command.as_json)
        figures = run_job(job, out, command.overwrite, confirm_resume(command))
    if command.as_json:
        print(json.dumps(figures))
    show_before_after(figures)
    bits = figures.get("bits_per_byte")
    held_out = (
        f"{bits:.3f} bits per byte of the text alone"
        if bits
        else f"loss {figures['loss']:.3f} {figures['loss_unit']}"
    )
    before = against_before(figures, "bits_per_byte" if bits else "loss")
    log(f"{figures['parameters']:,} parameters, {held_out}{before}: {_next(job.model_spec.family, out)}")
    return 0


def _family_objective(argv: Sequence[str]) -> JsonObject:
    """The family's own objective, where the command line names a family or a model and no objective."""
    words = [part for word in argv for part in word.split("=", 1)]
    if "--objective" in words:
        return {}
    if "--model" in words[:-1]:
        from parakit.checkpoints.loading import read_config

        return {"objective": OBJECTIVES[read_config(words[words.index("--model") + 1]).family][0]}
    family = words[words.index("--family") + 1] if "--family" in words[:-1] else "decoder"
    return {"objective": OBJECTIVES[family][0]} if family in OBJECTIVES else {}


def _next(family: Family, out: Path) -> str:
    if family == "decoder":
        return f"parakit generate {out}"
    if family == "encoder":
        return f'parakit predict {out} --text "A text with a [MASK] in it."'
    return f"parakit finetune {out} --task translate --examples FILE --output FOLDER"
