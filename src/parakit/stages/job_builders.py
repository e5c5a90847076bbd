"""Builds training jobs from user inputs: data files or folders, a model, settings, an output folder.

The commands and the Python API build their jobs here; `run_job` runs them, `align` those of alignment.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from parakit.alignment.config import AlignConfig, ConstitutionConfig, RolloutConfig
from parakit.checkpoints.adapters import require_full_model
from parakit.checkpoints.loading import read_config
from parakit.checkpoints.model_folder import require_plain_weights
from parakit.common.artifacts import LINEAGE, require_new_output, work_folder
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, disk_errors
from parakit.common.locks import output_lock
from parakit.common.processes import first_alone, is_first, wait_for_all
from parakit.common.settings import Family
from parakit.compression.config import DistillConfig
from parakit.model.presets import parse_size
from parakit.stages.alignment import AlignJob
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.constitution import constitution
from parakit.stages.data import (
    make_conversation_shards,
    make_conversations,
    make_example_shards,
    make_examples,
    make_preferences,
    make_prompts,
    report_skipped,
)
from parakit.stages.data_config import ConversationsConfig, ExamplesConfig
from parakit.stages.distillation import DistillJob
from parakit.stages.finetune_methods import check_method_fits
from parakit.stages.finetuning import FinetuneJob
from parakit.stages.job import run_job
from parakit.stages.plans import ModelSpec
from parakit.stages.pretraining import PretrainJob, open_shards
from parakit.stages.resuming.changed_settings import Confirm
from parakit.stages.run_dir import discard_finished
from parakit.training.config import lengths_given
from parakit.training.pace import TimeBudget
from parakit.training.task_names import TaskName, check_objective, check_task

Paths = Sequence[str | Path]


@contextlib.contextmanager
def output_folder(output: str | Path, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """The folder to write, and one next to it for checkpoints, which is removed after an error unless a checkpoint is
    there to resume from. Raises `UserError` before any work for an output that cannot be written, or to which another
    process is writing.
    """
    out = Path(output)
    work = work_folder(out)
    if not is_first():
        wait_for_all("output")
        yield out, work
        return
    with contextlib.ExitStack() as stack:
        with disk_errors(out):
            stack.enter_context(output_lock(out))
        _check_output(out, work, overwrite)
        wait_for_all("output")
        try:
            yield out, work
        except BaseException:
            if not any(work.glob("*/step-*")):
                shutil.rmtree(work, ignore_errors=True)
            raise


def _check_output(out: Path, work: Path, overwrite: bool) -> None:
    """Refuse an output that exists."""
    if out.exists() and not overwrite:
        discard_finished(out, work)
        require_new_output(out)
    if out.exists() and not (out.is_dir() and ((out / LINEAGE).is_file() or not any(out.iterdir()))):
        raise UserError(f"{out}: is not a Parakit artifact and is not replaced", "choose another folder")


def pretrain_job(
    shards: str | Path,
    work: Path,
    training: PretrainConfig,
    *,
    tokenizer: str | Path | None = None,
    family: Family | None = None,
    architecture: str | None = None,
    size: str | None = None,
    max_seq_len: int | None = None,
    seconds: float | None = None,
) -> PretrainJob:
    """Pre-train a new model with this tokenizer, or continue `training.model`, which has its own of all these."""
    given = {"family": family, "architecture": architecture, "size": size, "max_seq_len": max_seq_len}
    spec = {name: value for name, value in given.items() if value is not None}
    if training.model is None:
        if tokenizer is None:
            raise UserError(
                "no tokenizer was given", "name the one that encoded the shards: --tokenizer FOLDER"
            )
    else:
        for name in (["tokenizer"] if tokenizer else []) + list(spec):
            raise UserError(
                f"--{name.replace('_', '-')} is set but has no effect: {training.model} has its own",
                "remove it",
            )
        spec["family"] = read_config(training.model).family
    model_spec = ModelSpec(**spec)  # type: ignore[arg-type]
    check_objective(training.objective, model_spec.family)
    if size:
        parse_size(size)
    if (size or training.model) and seconds and lengths_given(training):
        raise UserError(
            "--time is set but has no effect: the size and the length are both given",
            "remove --time, or the size, or the length",
        )
    budget = TimeBudget(seconds) if seconds else None
    return PretrainJob(
        Path(shards), Path(tokenizer) if tokenizer else None, work, training, model_spec, budget
    )


def finetune_job(
    model: Path,
    work: Path,
    training: FinetuneConfig,
    *,
    conversations: Paths = (),
    shares: Sequence[float] = (),
    examples: Paths = (),
    validation_examples: Paths = (),
    test_examples: Paths = (),
) -> FinetuneJob:
    """Fine-tune `model` on conversations (chat) or on examples of another task: files, or one folder."""
    task = training.task
    chat_data = {"conversations": conversations, "shares": shares}
    example_files = {"examples": examples, "validation_examples": validation_examples}
    example_files["test_examples"] = test_examples
    _check_data(task, *((chat_data, example_files) if task == "chat" else (example_files, chat_data)))
    check_method_fits(model, training)
    family = read_config(model).family
    check_task(task, family, str(model))
    if task == "chat":
        shards = _by_first(lambda: _conversation_shards(conversations, model, work, shares, training.seed))
    else:
        shards = _by_first(lambda: _example_shards(task, model, family, work, **example_files))
    return FinetuneJob(model, shards, work, training)


def align_job(model: Path, work: Path, training: AlignConfig, *, preferences: Paths = ()) -> AlignJob:
    """Align `model` on preferences (reward, dpo: files, or one folder) or on the prompts of its settings."""
    has_prompts = isinstance(training, RolloutConfig | ConstitutionConfig)
    paths: Paths = preferences
    if isinstance(training, RolloutConfig | ConstitutionConfig):
        paths = training.prompts
    name, sample = ("prompts", "chats.jsonl") if has_prompts else ("preferences", "pairs.jsonl")
    if not paths:
        raise UserError(
            f"no {name} were given for the method {training.method!r}", f"name files: --{name} {sample}"
        )
    if has_prompts and preferences:
        raise UserError(
            f"--preferences is set, and the method {training.method!r} learns from prompts",
            "remove it, or choose --method reward or dpo",
        )
    names = tuple(map(str, paths))
    if len(names) == 1 and _is_artifact(names[0]):
        data = Path(names[0])
    elif has_prompts:
        data = _by_first(lambda: make_prompts(training.method, names, work / "prompts"))
    else:
        data = _by_first(lambda: make_preferences(names, work / "preferences", overwrite=True))
    return AlignJob(model, data, work, training)


def align(job: AlignJob, out: Path, overwrite: bool = False, confirm: Confirm | None = None) -> JsonObject:
    """Run the method of `job` and write the model folder `out`; returns the figures. `confirm`: see `run_job`."""
    require_full_model(job.model, "alignment")
    require_plain_weights(job.model, "alignment")
    if job.method == "constitution":  # several runs of an hour each, most of it generation
        return first_alone("constitution", lambda: constitution(job, out, overwrite))
    return run_job(job, out, overwrite, confirm)


def distill_job(
    teacher: Path,
    work: Path,
    training: DistillConfig,
    *,
    conversations: Paths = (),
    shards: str | Path | None = None,
    teacher_logits: str | Path | None = None,
) -> DistillJob:
    """Distill `teacher` on conversations (files, or one folder) or on token shards."""
    if training.size is not None:
        parse_size(training.size)
    if bool(conversations) == bool(shards):
        raise UserError(
            "a student learns from conversations or token shards, but "
            + ("both were named" if shards else "neither was named"),
            "name --conversations FILES or --shards FOLDER",
        )
    require_full_model(teacher, "distillation")
    if training.student is not None:
        require_plain_weights(training.student, "distillation")
    family = read_config(teacher).family
    if conversations and family != "decoder":
        raise UserError(
            f"{teacher}: a model of the family {family!r} cannot learn from conversations",
            "distil it on --shards that were encoded for its family",
        )
    data = (
        open_shards(shards)
        if shards
        else _by_first(lambda: _conversation_shards(conversations, teacher, work))
    )
    return DistillJob(teacher, data, work, training, Path(teacher_logits) if teacher_logits else None)


def _by_first(make: Callable[[], Path]) -> Path:
    """The folder that `make` writes: of several processes, the first makes it."""
    return Path(first_alone("data", lambda: str(make())))


def _check_data(
    task: TaskName, expected: dict[str, Sequence[object]], other: dict[str, Sequence[object]]
) -> None:
    """`UserError` without the task's data, and with that of another task."""
    name, other_name = next(iter(expected)), next(iter(other))
    if not expected[name]:
        sample = "chats.jsonl" if task == "chat" else f"{task}.jsonl"
        raise UserError(f"no {name} were given for the task {task!r}", f"name files: --{name} {sample}")
    for key, value in other.items():
        if value:
            raise UserError(
                f"--{key.replace('_', '-')} is set, and the task {task!r} learns from {name}",
                f"remove it, or name another --task (with --{other_name})",
            )


def _is_artifact(path: str | Path) -> bool:
    return (Path(path) / LINEAGE).is_file()


def _conversation_shards(
    conversations: Paths, model: Path, work: Path, shares: Sequence[float] = (), seed: int = 0
) -> Path:
    """Conversations, from files (mixed by `shares`) or from a folder of them, compiled by the model's template."""
    folder = Path(conversations[0])
    if len(conversations) > 1 or not _is_artifact(folder):
        paths = tuple(map(str, conversations))
        config = ConversationsConfig.parse({"paths": paths, "shares": tuple(shares)}, "--conversations")
        folder = make_conversations(config, work / "conversations", overwrite=True, seed=seed)
    elif shares:
        raise UserError(
            f"{folder}: is mixed already, but shares were given", "remove them, or name its files"
        )
    return make_conversation_shards(folder, model, work / "shards", overwrite=True)


def _example_shards(
    task: TaskName,
    model: Path,
    family: Family,
    work: Path,
    *,
    examples: Paths,
    validation_examples: Paths,
    test_examples: Paths,
) -> Path:
    """Examples, from files or from a folder of them, encoded for the model's family."""
    folder = Path(examples[0])
    if len(examples) > 1 or not _is_artifact(folder):
        files = {"paths": examples, "validation_paths": validation_examples}
        values: dict[str, object] = {key: tuple(map(str, paths)) for key, paths in files.items()}
        values |= {"test_paths": tuple(map(str, test_examples))} if test_examples else {"test_fraction": 0.0}
        config = ExamplesConfig.parse(values, "--examples")
        folder = report_skipped("examples", make_examples(config, task, work / "examples", overwrite=True))
    elif validation_examples or test_examples:
        raise UserError(
            f"{folder}: is split already, but files for its splits were given", "remove those files"
        )
    return make_example_shards(folder, model, work / "shards", family, overwrite=True)
