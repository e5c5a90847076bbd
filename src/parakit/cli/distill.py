"""`parakit distill`: a smaller model that learns how likely a larger one finds each token."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from parakit.cli.main import merge_repeated_flags
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.compression.config import DistillConfig, Lesson, unread_distilling
from parakit.model.presets import parse_size
from parakit.recipe.build_folder import resolve_model_folder

if TYPE_CHECKING:
    from parakit.stages.distillation import StudentSpec

SUMMARY = "Make a smaller model that has learned from a larger one."


class DistillCommandConfig(DistillConfig):
    """Train a student on its teacher's probabilities, on conversations or on token shards. It begins as a part of the
    teacher's layers (half of them, where nothing else is said), as a fresh model of a size, or as another model.
    Interrupted, the same command goes on.
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
    keep_layers: int | None = Field(
        default=None, ge=1, description="The student begins as so many of the teacher's layers."
    )
    size: str | None = Field(
        default=None, description="The student is a fresh model of so many parameters, for example 700k."
    )
    student: str | None = Field(
        default=None, description="The student is this model folder, with the teacher's tokenizer."
    )
    may_be_larger: bool = Field(default=False, description="Allow a student larger than its teacher.")
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
    argv = merge_repeated_flags(argv, ["--conversations"])
    command = tyro.cli(
        DistillCommandConfig, args=argv, prog="parakit distill", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.checkpoints.adapters import require_full_model
    from parakit.cli.rendering.training_command import conversation_shards, output_folder, training_config

    wanted = _wanted(command)
    if bool(command.conversations) == bool(command.shards):
        raise UserError(
            "a student learns on conversations or on token shards, and "
            + ("both were named" if command.shards else "neither was named"),
            "name --conversations FILES or --shards FOLDER",
        )
    teacher = resolve_model_folder(command.teacher)
    require_full_model(teacher, "distillation")
    learned = _learned(command, teacher)
    training = training_config(command, DistillConfig, learned, lambda read: unread_distilling(read, learned))
    with output_folder(command.output, command.overwrite) as (out, work):
        from parakit.stages.distillation import DistillJob, distill

        shards = (
            Path(command.shards)
            if command.shards
            else conversation_shards(command.conversations, teacher, work)
        )
        logits = Path(command.teacher_logits) if command.teacher_logits else None
        job = DistillJob(teacher, shards, work, training, wanted, logits)
        figures = distill(job, out, command.overwrite)
    if command.as_json:
        print(json.dumps(figures))
    verb = {"chat": "chat", "next_token": "generate", "masked": "predict"}[learned]
    log(
        f"validation loss {figures['loss']:.3f} {figures['loss_unit']} (the teacher's: {figures['teacher']['loss']:.3f})"
        f" with {figures['share_of_parameters']:.0%} of its parameters: parakit {verb} {out}"
    )
    return 0


def _wanted(command: DistillCommandConfig) -> "StudentSpec":
    """The student, said in one way."""
    ways = {"keep_layers": command.keep_layers, "size": command.size, "student": command.student}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in given)
        raise UserError(f"{flags} both say what the student is", "keep one of them")
    if command.size is not None:
        parse_size(command.size)
    from parakit.stages.distillation import StudentSpec

    folder = None if command.student is None else resolve_model_folder(command.student)
    return StudentSpec(command.keep_layers, command.size, folder, command.may_be_larger)


def _learned(command: DistillCommandConfig, teacher: Path) -> Lesson:
    """What the data teaches, as far as it can be told without opening it: conversations, or an encoder's text."""
    from parakit.checkpoints.model_folder import read_config

    family = read_config(teacher).family
    if command.conversations and family != "decoder":
        raise UserError(
            f"{teacher}: a model of the family {family!r} answers no conversations",
            "distil it on --shards that were encoded for its family",
        )
    if family == "encoder":
        return "masked"
    return "chat" if command.conversations else "next_token"
