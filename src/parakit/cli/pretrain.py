"""`parakit pretrain`: on token shards that `parakit tokenizer encode` wrote, from scratch or from a trained model."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.model.config import Family
from parakit.model.presets import parse_size
from parakit.stages.config import PretrainConfig
from parakit.training.task_names import OBJECTIVES, ObjectiveName, check_objective

SUMMARY = "Train a model on encoded text, from scratch or from a model."
_OF_A_FRESH_MODEL = ("tokenizer", "family", "architecture", "size", "max_seq_len")


class PretrainCommandConfig(PretrainConfig):
    """Train a decoder, an encoder or an encoder-decoder on token shards and write a model folder. With --model a trained
    one goes on, with --replay it keeps what it knew. Interrupted, the same command goes on.
    """

    shards: tyro.conf.Positional[str] = Field(description="The folder of token shards.")
    tokenizer: str | None = Field(
        default=None, description="The tokenizer that encoded them; with --model it is the model's."
    )
    output: str = Field(description="The model folder to write.")
    family: Family = Field(
        default="decoder",
        description="decoder goes on with a text, encoder reads one, encoder-decoder turns one into another.",
    )
    architecture: str | None = Field(
        default=None,
        description="A published shape of that family, for example bert; none: the family's own.",
    )
    objective: Annotated[ObjectiveName | None, tyro.conf.arg(metavar="NAME")] = Field(
        default=None, description="What is learned, for example prefix; none: the family's own objective."
    )
    size: str | None = Field(default=None, description="Parameters, for example 5m; none: from the time.")
    time: str | None = Field(default=None, description="Time to train, for example 10min.")
    max_seq_len: int = Field(default=256, ge=8, description="The context window, in tokens.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the figures as JSON."
    )


def main(argv: list[str]) -> int:
    """Run `parakit pretrain` with these arguments."""
    command = tyro.cli(
        PretrainCommandConfig, args=argv, prog="parakit pretrain", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.cli.rendering.training_command import against_before, output_folder, training_config
    from parakit.recipe.config import parse_time
    from parakit.training.config import sets_length

    family = _family(command)
    objective = command.objective or OBJECTIVES[family][0]
    check_objective(objective, family)
    if objective == "none":
        raise UserError("objective 'none' trains nothing here", "in a recipe it goes straight to the task")
    training = training_config(command, PretrainConfig, objective)
    seconds = parse_time(command.time) if command.time else None
    if command.size:
        parse_size(command.size)
    if (command.size or command.model) and seconds and sets_length(training):
        raise UserError(
            "--time is set, and nothing reads it: the size and the length are both given",
            "take --time out, or the size, or the length",
        )
    with output_folder(command.output, command.overwrite) as (out, work):
        from parakit.stages.jobs import PretrainJob, pretrain
        from parakit.stages.plans import ModelSpec

        job = PretrainJob(
            shards=Path(command.shards),
            tokenizer=Path(command.tokenizer) if command.tokenizer else None,
            work=work,
            training=training,
            wanted=ModelSpec(
                family=family,
                architecture=command.architecture,
                size=command.size,
                seconds=seconds,
                max_seq_len=command.max_seq_len,
            ),
            objective=objective,
        )
        figures = pretrain(job, out, command.overwrite)
    if command.as_json:
        print(json.dumps(figures))
    bits = figures.get("bits_per_byte")
    held_out = f"{bits:.3f} bits per byte" if bits else f"loss {figures['loss']:.3f} {figures['loss_unit']}"
    before = against_before(figures, "bits_per_byte" if bits else "loss")
    log(f"{figures['parameters']:,} parameters, {held_out}{before}: {_next(family, out)}")
    return 0


def _family(command: PretrainCommandConfig) -> Family:
    """What is trained: a fresh model of the family asked for, or one more of the kind that is there."""
    if command.model is None:
        if command.tokenizer is None:
            raise UserError(
                "no tokenizer was given", "name the one that encoded the shards: --tokenizer FOLDER"
            )
        return command.family
    for name in _OF_A_FRESH_MODEL:
        if getattr(command, name) != PretrainCommandConfig.model_fields[name].default:
            raise UserError(
                f"--{name.replace('_', '-')} is set, and nothing reads it: {command.model} has its own",
                "take it out",
            )
    from parakit.checkpoints.model_folder import read_config

    return read_config(command.model).family


def _next(family: Family, out: Path) -> str:
    if family == "decoder":
        return f"parakit generate {out}"
    if family == "encoder":
        return f'parakit predict {out} --text "A text with a [MASK] in it."'
    return f"parakit finetune {out} --task translate --examples FILE --output FOLDER"
