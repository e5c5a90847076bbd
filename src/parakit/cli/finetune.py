"""`parakit finetune`: tune a model on conversations, so that it answers, or on the examples of another task."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_arguments
from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.common.settings import Config
from parakit.model.transformer_config import Family
from parakit.recipe.build_folder import resolve_model_folder
from parakit.stages.config import FinetuneConfig
from parakit.training.task_names import TaskName, check_task

SUMMARY = "Tune a model on conversations, or for another task."
_FILES = ("conversations", "examples", "validation_examples", "test_examples")
_OF_CHAT = ("conversations", "shares")


class FinetuneCommandConfig(Config):
    """Train all weights, or with --method an adapter or some layers: for chat on conversations, of which the assistant's
    turns count; for classify, tag, regress, translate and embed on examples. Interrupted, the same command resumes.
    """

    model: tyro.conf.Positional[str] = Field(description="The model folder to start from; it is not changed.")
    output: str = Field(description="The model folder to write.")
    conversations: tuple[str, ...] = Field(
        default=(), description="chat: JSON-lines files, or a folder that `parakit text` wrote."
    )
    shares: tuple[float, ...] = Field(
        default=(),
        description="chat: proportions in which several files of conversations are mixed, e.g. 3 1.",
    )
    examples: tuple[str, ...] = Field(
        default=(),
        description="Other tasks: JSON-lines, CSV or TSV files, or a folder that `parakit text --task` wrote.",
    )
    validation_examples: tuple[str, ...] = Field(
        default=(), description="Files that are the validation split; else a twentieth of the examples."
    )
    test_examples: tuple[str, ...] = Field(
        default=(), description="Files that must not be trained on; `parakit evaluate` measures on them."
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the figures as JSON."
    )


def main(argv: list[str]) -> int:
    """Run `parakit finetune` with these arguments."""
    command, training = parse_arguments(FinetuneCommandConfig, FinetuneConfig, argv, "parakit finetune")
    from parakit.cli.rendering.training_command import against_before, conversation_shards, output_folder

    task = training.task
    _check_data(command, task)
    with output_folder(command.output, command.overwrite) as (out, work):
        from parakit.checkpoints.loading import read_config
        from parakit.stages.finetune_methods import check_base
        from parakit.stages.finetuning import FinetuneJob
        from parakit.stages.job import run_job

        model = resolve_model_folder(command.model)
        check_base(model, training)
        family = read_config(model).family
        check_task(task, family, command.model)
        if task == "chat":
            shards = conversation_shards(command.conversations, model, work, command.shares, training.seed)
        else:
            shards = _example_shards(command, task, model, family, work)
        figures = run_job(FinetuneJob(model, shards, work, training), out, command.overwrite)
    if command.as_json:
        print(json.dumps(figures))
    verb = "chat" if task == "chat" else "predict"
    told = f"validation loss {figures['loss']:.3f} {figures['loss_unit']}{against_before(figures)}"
    log(f"{told}: parakit {verb} {out}")
    return 0


def _check_data(command: FinetuneCommandConfig, task: TaskName) -> None:
    """A task and the files that it learns from."""
    chat = task == "chat"
    wanted, other = ("conversations", "examples") if chat else ("examples", "conversations")
    if not getattr(command, wanted):
        sample = "chats.jsonl" if chat else f"{task}.jsonl"
        raise UserError(f"no {wanted} were given for the task {task!r}", f"name files: --{wanted} {sample}")
    for name in (*_FILES, "shares"):
        if getattr(command, name) and (name.endswith("examples") if chat else name in _OF_CHAT):
            raise UserError(
                f"--{name.replace('_', '-')} is set, and the task {task!r} learns from {wanted}",
                f"take it out, or name another --task (with --{other})",
            )


def _example_shards(
    command: FinetuneCommandConfig, task: TaskName, model: Path, family: Family, work: Path
) -> Path:
    """Examples, from files or from a folder of them, as the model's family reads them."""
    from parakit.stages.data_config import ExamplesConfig
    from parakit.stages.examples import make_example_shards, make_examples

    folder = Path(command.examples[0])
    if len(command.examples) > 1 or not (folder / LINEAGE).is_file():
        values = {"paths": command.examples, "validation_paths": command.validation_examples}
        values |= {"test_paths": command.test_examples} if command.test_examples else {"test_fraction": 0.0}
        config = ExamplesConfig.parse(values, "--examples")
        folder = make_examples(config, task, work / "examples", overwrite=True)
    elif command.validation_examples or command.test_examples:
        raise UserError(
            f"{folder}: is split already, and files for its splits were named", "take those files out"
        )
    return make_example_shards(folder, model, work / "shards", family, overwrite=True)
