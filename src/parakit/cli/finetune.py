"""`parakit finetune`: fine-tune a model on conversations (chat) or on the examples of another task."""

import json
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
from parakit.common.progress import log
from parakit.recipe.build_folder import resolve_model_folder
from parakit.stages.config import FinetuneConfig

_DATA = ("conversations", "shares", "examples", "validation_examples", "test_examples")


class FinetuneCommandConfig(RunFlags):
    """Fine-tune a model: all weights, an adapter, or some layers (--method). The task chat trains on conversations,
    where the loss counts the assistant's turns; the other tasks train on examples. The same command resumes an
    interrupted run.
    """

    model: tyro.conf.Positional[str] = Field(description="The model folder to start from; it is not changed.")
    output: str = Field(description="The model folder to write.")
    conversations: tuple[str, ...] = Field(
        default=(), description="For chat: JSON-lines files, or a folder that `parakit text` wrote."
    )
    shares: tuple[float, ...] = Field(
        default=(),
        description="For chat: proportions in which several files "
        "of conversations are mixed, for example 3 1.",
    )
    examples: tuple[str, ...] = Field(
        default=(),
        description="For other tasks: JSON-lines, CSV or TSV files, "
        "or a folder that `parakit text --task` wrote.",
    )
    validation_examples: tuple[str, ...] = Field(
        default=(), description="Files of the validation split. Default: 5 % of the examples."
    )
    test_examples: tuple[str, ...] = Field(
        default=(), description="Files of the test split, for `parakit evaluate`; they are never trained on."
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit finetune` with these arguments."""
    command, training = parse_arguments(FinetuneCommandConfig, FinetuneConfig, argv, "parakit finetune")
    from parakit.stages.job import run_job
    from parakit.stages.job_builders import finetune_job, output_folder

    data = {name: getattr(command, name) for name in _DATA}
    refuse_inert(command, RUN_FLAG_RULES)
    with output_folder(command.output, command.overwrite) as (out, work):
        job = finetune_job(resolve_model_folder(command.model), work, training, **data)
        if command.find_rate:
            return find_rate_of(job, command.output, command.as_json)
        figures = run_job(job, out, command.overwrite, confirm_resume(command))
    if command.as_json:
        print(json.dumps(figures))
    show_before_after(figures)
    verb = "chat" if training.task == "chat" else "predict"
    result = f"validation loss {figures['loss']:.3f} {figures['loss_unit']}{against_before(figures)}"
    log(f"{result}: parakit {verb} {out}")
    return 0
