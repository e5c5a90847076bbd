"""`parakit distill`: train a smaller model on a larger one's token probabilities."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_arguments
from parakit.cli.rendering.conditions import refuse_inert
from parakit.cli.rendering.training_command import RUN_FLAG_RULES, RunFlags, confirm_resume, find_rate_of
from parakit.common.progress import log
from parakit.compression.config import DistillConfig
from parakit.recipe.build_folder import resolve_model_folder


class DistillCommandConfig(RunFlags):
    """Train a student on its teacher's token probabilities, on conversations or token shards. The student is
    initialized from some of the teacher's layers (by default half of them), from scratch at a size, or from another
    model. The same command resumes an interrupted run.
    """

    teacher: tyro.conf.Positional[str] = Field(description="The teacher's model folder; it is not changed.")
    output: str = Field(description="The model folder to write.")
    conversations: tuple[str, ...] = Field(
        default=(), description="JSON-lines files, or a folder that `parakit text` wrote."
    )
    shards: str | None = Field(
        default=None, description="A folder of token shards of text or of conversations."
    )
    teacher_logits: str | None = Field(
        default=None,
        description="Folder of the teacher's cached logits: read if it exists, else written for the next run.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit distill` with these arguments."""
    command, training = parse_arguments(
        DistillCommandConfig, DistillConfig, argv, "parakit distill", _objective(argv)
    )
    from parakit.checkpoints.loading import read_config
    from parakit.stages.job import run_job
    from parakit.stages.job_builders import distill_job, output_folder

    if training.student is not None:
        training = training.replace(student=str(resolve_model_folder(training.student)))
    refuse_inert(command, RUN_FLAG_RULES)
    with output_folder(command.output, command.overwrite) as (out, work):
        job = distill_job(
            resolve_model_folder(command.teacher),
            work,
            training,
            conversations=command.conversations,
            shards=command.shards,
            teacher_logits=command.teacher_logits,
        )
        if command.find_rate:
            return find_rate_of(job, command.output, command.as_json)
        figures = run_job(job, out, command.overwrite, confirm_resume(command))
    if command.as_json:
        print(json.dumps(figures))
    verb = "predict" if read_config(out).family == "encoder" else "generate"
    verb = "chat" if command.conversations else verb
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
