"""`parakit pretrain`: a language model from scratch, on token shards that `parakit tokenizer encode` wrote."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.progress import say
from parakit.model.presets import parse_size
from parakit.training.config import TrainingConfig

SUMMARY = "Train a language model from scratch on encoded text."


class PretrainCommandConfig(TrainingConfig):
    """Train a decoder on token shards and write a model folder. Interrupted, the same command goes on."""

    shards: tyro.conf.Positional[str] = Field(description="The folder of token shards.")
    tokenizer: str = Field(description="The tokenizer that encoded them.")
    output: str = Field(description="The model folder to write.")
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
    from parakit.cli.training_command import output_folder, training_config
    from parakit.recipe.config import parse_time, says_how_long

    training = training_config(command)
    seconds = parse_time(command.time) if command.time else None
    if command.size:
        parse_size(command.size)
        if seconds and says_how_long(training):
            raise UserError(
                "--time is set, and nothing reads it: the size and the length are both given",
                "take --time out, or the size, or the length",
            )
    with output_folder(command.output, command.overwrite) as (out, work):
        from parakit.recipe.model_stages import Pretraining, pretrain

        job = Pretraining(
            shards=Path(command.shards),
            tokenizer=Path(command.tokenizer),
            work=work,
            training=training,
            size=command.size,
            seconds=seconds,
            max_seq_len=command.max_seq_len,
        )
        figures = pretrain(job, out, command.overwrite)
    if command.as_json:
        print(json.dumps(figures))
    say(
        f"{figures['parameters']:,} parameters, {figures['bits_per_byte']:.3f} bits per byte: parakit generate {out}"
    )
    return 0
