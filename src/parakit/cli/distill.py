"""`parakit distill`: a smaller model that learns how likely a larger one finds each token."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_arguments
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.common.settings import Config
from parakit.compression.config import DistillConfig, DistillObjective
from parakit.model.presets import parse_size
from parakit.recipe.build_folder import resolve_model_folder

SUMMARY = "Make a smaller model that has learned from a larger one."


class DistillCommandConfig(Config):
    """Train a student on its teacher's probabilities, on conversations or on token shards. It begins as a part of the
    teacher's layers (by default half of them), from scratch at a size, or as another model. Interrupted, the same command
    resumes.
    """

    teacher: tyro.conf.Positional[str] = Field(
        description="The model folder to learn from; it is not changed."
    )
    output: str = Field(description="The model folder to write.")
    conversations: tuple[str, ...] = Field(
        default=(), description="JSON-lines files, or a folder that `parakit text` wrote."
    )
    shards: str | None = Field(
        default=None, description="A folder of token shards: text, masked for an encoder, or conversations."
    )
    teacher_logits: str | None = Field(
        default=None,
        description="Folder of the teacher's answers: read where it exists, else written for the next student.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the figures as JSON."
    )


def main(argv: list[str]) -> int:
    """Run `parakit distill` with these arguments."""
    command, training = parse_arguments(
        DistillCommandConfig, DistillConfig, argv, "parakit distill", _objective(argv)
    )
    from parakit.checkpoints.adapters import require_full_model
    from parakit.cli.rendering.training_command import conversation_shards, output_folder

    if training.size is not None:
        parse_size(training.size)
    if bool(command.conversations) == bool(command.shards):
        raise UserError(
            "a student learns on conversations or on token shards, and "
            + ("both were named" if command.shards else "neither was named"),
            "name --conversations FILES or --shards FOLDER",
        )
    teacher = resolve_model_folder(command.teacher)
    require_full_model(teacher, "distillation")
    objective = _check_objective(command, teacher)
    if training.student is not None:
        training = training.replace(student=str(resolve_model_folder(training.student)))
    with output_folder(command.output, command.overwrite) as (out, work):
        from parakit.stages.distillation import DistillJob
        from parakit.stages.job import run_job

        shards = (
            Path(command.shards)
            if command.shards
            else conversation_shards(command.conversations, teacher, work)
        )
        logits = Path(command.teacher_logits) if command.teacher_logits else None
        job = DistillJob(teacher, shards, work, training, logits)
        figures = run_job(job, out, command.overwrite)
    if command.as_json:
        print(json.dumps(figures))
    verb = {"chat": "chat", "next_token": "generate", "masked": "predict"}[objective]
    log(
        f"validation loss {figures['loss']:.3f} {figures['loss_unit']} (the teacher's: {figures['teacher']['loss']:.3f})"
        f" with {figures['share_of_parameters']:.0%} of its parameters: parakit {verb} {out}"
    )
    return 0


def _objective(argv: Sequence[str]) -> dict[str, str]:
    """Masked language modelling for an encoder, whose folder is among the arguments."""
    from parakit.checkpoints.loading import read_config

    for word in argv:
        if not word.startswith("-") and (Path(word) / "config.json").is_file():
            return {"objective": "masked"} if read_config(word).family == "encoder" else {}
    return {}


def _check_objective(command: DistillCommandConfig, teacher: Path) -> DistillObjective:
    """What is learned, as far as it is known before the data are opened; `UserError` where teacher and data differ."""
    from parakit.checkpoints.loading import read_config

    family = read_config(teacher).family
    if command.conversations and family != "decoder":
        raise UserError(
            f"{teacher}: a model of the family {family!r} answers no conversations",
            "distil it on --shards that were encoded for its family",
        )
    if family == "encoder":
        return "masked"
    return "chat" if command.conversations else "next_token"
