"""The stages that make a model: pre-training on token shards, from scratch or from a trained model; tuning for a task.

Both draw up a plan, keep it beside their checkpoints (an interrupted run goes on under the plan it began
with), hand over to `run_training`, and write a model folder. A run's checkpoints stand in a folder named
after its settings and inputs, so a run with others begins anew and takes nothing from them.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parakit.checkpoints.adapters import save_adapter
from parakit.checkpoints.adapters.base_model import require_full_model
from parakit.checkpoints.folder_safety import require_model_folder
from parakit.checkpoints.model_folder import load_model, save_model
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.common.seeds import seed_everything
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import Model
from parakit.model.presets import default_hyperparameters
from parakit.reports.adapter_card import adapter_card
from parakit.reports.model_card import stage_card
from parakit.stages import finetune_methods as adapting
from parakit.stages.config import EmbeddingInit, FinetuneConfig, PretrainConfig, replay_of
from parakit.stages.plans import ModelSpec, choose_model_size, plan_by_timing, resolve_plan
from parakit.stages.run_dir import load_plan, run_directory, save_plan
from parakit.stages.running import TrainingInputs, chart_rows, describe_plan, run_training, spec_of
from parakit.stages.task_models import (
    build_model,
    check_can_be_saved,
    continue_pretraining,
    task_model,
    with_dropout,
)
from parakit.stages.tasks import ReplayData, Splits, TaskBuilder
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.config import TrainingPlan
from parakit.training.initialization import init_embeddings_from_cooccurrence
from parakit.training.metrics import EVENTS, METRICS
from parakit.training.task_names import ObjectiveName, TaskName, check_objective


@dataclass(frozen=True)
class PretrainJob:
    """What a person says about pre-training a model. `tokenizer` is a fresh model's; one that goes on brings its own."""

    shards: Path
    tokenizer: Path | None
    work: Path
    training: PretrainConfig
    wanted: ModelSpec = field(default_factory=ModelSpec)

    @property
    def objective(self) -> ObjectiveName:
        """The objective of the settings."""
        return self.training.objective


@dataclass(frozen=True)
class FromScratch:
    """In the place of a trained model: one with fresh weights, and the tokenizer it reads with."""

    tokenizer: Path
    wanted: ModelSpec


@dataclass(frozen=True)
class FinetuneJob:
    """What a person says about tuning `model` on the shards of a task."""

    model: Path | FromScratch
    shards: Path
    work: Path
    training: FinetuneConfig

    @property
    def task(self) -> TaskName:
        """The task of the settings."""
        return self.training.task


def pretrain(job: PretrainJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Train a model from scratch, or go on with a trained one, and write it to the model folder `out`; returns the
    figures.
    """
    first = require_model_folder(job.training.model) if job.training.model else job.tokenizer
    assert first is not None, "a fresh model needs a tokenizer"
    parents = _with_replayed([_shards(job.shards), first], job.training)
    said = job.wanted.said()
    with run_directory(job.work, job.training, parents, said) as work:
        if job.training.model:
            run, tokenizer = _gone_on(job, first, work)
        else:
            tokenizer, splits = Tokenizer.load(first), Splits.of_text(job.shards, job.wanted.family)
            run = _begun_afresh("pretrain", job.wanted, job.training, job.objective, tokenizer, splits, work)
        figures = _train("pretrain", run, tokenizer, work)
        _save(run, tokenizer, out, overwrite, "pretrain", job.objective, parents, figures, work)
    return figures


def finetune(job: FinetuneJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Train all weights, or what the method says, on the answers of a task: on what the assistant says and its end of
    turn, on labels, on translations.
    """
    adapting.check_base(None if isinstance(job.model, FromScratch) else job.model, job.training)
    first = job.model.tokenizer if isinstance(job.model, FromScratch) else job.model
    parents = _with_replayed([first, job.shards], job.training)
    said: dict[str, Any] = {"task": job.task}
    said |= job.model.wanted.said() if isinstance(job.model, FromScratch) else {}
    with run_directory(job.work, job.training, parents, said) as work:
        if isinstance(job.model, FromScratch):
            tokenizer = Tokenizer.load(job.model.tokenizer)
            wanted, splits = job.model.wanted, _task_splits(job)
            run = _begun_afresh("finetune", wanted, job.training, job.task, tokenizer, splits, work)
        else:
            run, tokenizer = _tuned(job, job.model, work)
        figures = _train("finetune", run, tokenizer, work) | {"task": job.task}
        _save(run, tokenizer, out, overwrite, "finetune", job.task, parents, figures, work)
    return figures


@dataclass(frozen=True)
class _Run:
    """A model, what it learns, and under which plan."""

    model: Model
    lessons: TaskBuilder
    plan: TrainingPlan
    tuning: adapting.FinetuneSetup = field(default_factory=adapting.FinetuneSetup)
    before: dict[str, Any] | None = None
    """What the model scored before its first step, where that is compared."""
    talks: bool = False
    """Whether the model was tuned for chat before, and goes on with its template."""


def _begun_afresh(
    title: str,
    wanted: ModelSpec,
    training: PretrainConfig | FinetuneConfig,
    learned: ObjectiveName | TaskName,
    tokenizer: Tokenizer,
    splits: Splits,
    work: Path,
) -> _Run:
    """A fresh model of the size wanted, or the one that an interrupted run began with."""
    if replay := replay_of(training):
        raise UserError(f"{replay}: a fresh model has nothing to forget", "name a model to go on from")
    if kept := load_plan(work):
        shape, plan = kept
        lessons = TaskBuilder(learned, splits, shape, tokenizer, training)
    else:
        dial = choose_model_size(wanted, training, tokenizer.vocab_size, splits.train)
        shape = with_dropout(dial.config, training.dropout)
        check_can_be_saved(shape)
        log(f"{title}: {dial.describe()}")
        lessons = TaskBuilder(learned, splits, shape, tokenizer, training)

        def trial() -> Model:
            return _with_head(build_model(shape), learned, training, splits)

        plan = plan_by_timing(wanted, training, dial, lessons, trial)
        save_plan(work, shape, plan)
    seed_everything(plan.seed)
    model = build_model(shape)
    counted = isinstance(training, EmbeddingInit) and training.embedding_init == "cooccurrence"
    if counted and not kept:  # else a checkpoint has the vectors
        _count_neighbours(model, splits, tokenizer, plan.seed)
    return _Run(_with_head(model, learned, training, splits), lessons, plan)


def _count_neighbours(model: Model, splits: Splits, tokenizer: Tokenizer, seed: int) -> None:
    """Begin with token vectors from counts of the training split."""
    assert isinstance(splits.train, TokenShards)
    ignored = np.flatnonzero(VocabInfo.from_tokenizer(tokenizer).special).tolist()
    started = time.monotonic()
    n = init_embeddings_from_cooccurrence(model.trunk.token_embedding, splits.train, ignored, seed)
    log(f"{n:,} token vectors counted in {time.monotonic() - started:.1f}s")


def _gone_on(job: PretrainJob, folder: Path, work: Path) -> tuple[_Run, Tokenizer]:
    """A trained model that goes on with its pre-training, with smaller steps than a fresh one. Weights are trained in
    float32, whatever they were stored in.
    """
    require_full_model(folder, "pre-training")
    base, tokenizer = load_model(folder, pick_device(job.training.device), "float32")
    if tokenizer is None:
        raise UserError(
            f"{folder}: has no tokenizer, so no text can be read", "put the model's tokenizer there"
        )
    check_objective(job.objective, base.config.family)
    splits = Splits.of_text(job.shards, base.config.family)
    earlier = ReplayData.of(job.training, job.shards, splits)
    model = continue_pretraining(base, job.training.dropout)
    check_can_be_saved(model.config)
    lessons = TaskBuilder(job.objective, splits, model.config, tokenizer, job.training, earlier)
    if kept := load_plan(work):
        plan = kept[1]
    else:
        plan = plan_by_timing(
            job.wanted,
            job.training,
            default_hyperparameters(model.config),
            lessons,
            lambda: copy.deepcopy(model),
            tuning=True,
        )
        save_plan(work, model.config, plan)
    seed_everything(plan.seed)
    before = lessons.measured(plan)(model)
    return _Run(model, lessons, plan, before=before, talks=is_chat_tuned(folder)), tokenizer


def _tuned(job: FinetuneJob, folder: Path, work: Path) -> tuple[_Run, Tokenizer]:
    """A trained model under the head of its task. Weights are trained in float32, whatever they were stored in."""
    base, tokenizer = load_model(folder, pick_device(job.training.device), "float32")
    assert tokenizer is not None, "shards cannot be made without the model's tokenizer"
    splits = _task_splits(job)
    earlier = ReplayData.of(job.training, job.shards, splits)
    kept = load_plan(work)
    if kept:
        plan = kept[1]
    else:
        dial = adapting.adjust_sizing(default_hyperparameters(base.config), job.training)
        new_share = 1.0 - earlier.share if earlier else 1.0
        plan = resolve_plan(job.training, dial, splits.train, tuning=True, new_share=new_share)
        plan = adapting.adjust_plan(plan, job.training)
    save_plan(work, base.config, plan)
    seed_everything(plan.seed)
    model = _with_head(base, job.task, job.training, splits)
    lessons = TaskBuilder(job.task, splits, model.config, tokenizer, job.training, earlier)
    before = lessons.measured(plan)(model) if earlier else None
    tuning = adapting.setup_method(
        model, job.training, tokenizer, job.task == "chat" and not is_chat_tuned(folder)
    )
    return _Run(model, lessons, plan, tuning, before), tokenizer


def _with_replayed(parents: list[Path], training: PretrainConfig | FinetuneConfig) -> list[Path]:
    return [*parents, _shards(replay)] if (replay := replay_of(training)) else parents


def _shards(path: str | Path) -> Path:
    """`path`, where it holds token shards; they are verified when they are read."""
    return open_artifact(path, "shards", verify=False).path


def _task_splits(job: FinetuneJob) -> Splits:
    if job.task == "chat":
        return Splits.of_text(job.shards, "decoder")
    return Splits.of_examples(job.shards)


def _with_head(
    model: Model, learned: ObjectiveName | TaskName, training: PretrainConfig | FinetuneConfig, splits: Splits
) -> Model:
    """The model as it is pre-trained, or under the head of a task."""
    if isinstance(training, PretrainConfig):
        return model
    assert learned in ("chat", "classify", "tag", "regress", "translate", "embed")
    labels: tuple[str, ...] = ()
    if isinstance(splits.train, ExampleShards):
        labels = ("score",) if learned == "regress" else splits.train.labels
    return task_model(model, training, labels)


def _train(title: str, run: _Run, tokenizer: Tokenizer, work: Path) -> dict[str, Any]:
    lesson = run.lessons.under(run.plan)
    log(f"{title}: {describe_plan(run.plan, lesson.unit)}")
    inputs = TrainingInputs(
        title, run.model, tokenizer, lesson, run.plan, work, frozen=run.tuning.frozen, before=run.before
    )
    figures: dict[str, Any] = {}
    if earlier := run.lessons.earlier:
        log(f"{title}: {earlier.share:.0%} of the rows are earlier ones")
        figures = {
            "replay_share": earlier.share,
            "earlier_documents_seen": earlier.n_seen(run.lessons.splits),
        }
        if n_seen := figures["earlier_documents_seen"]:
            log(
                f"{title}: {n_seen} held-out documents of the earlier data are in the new, and flatter its loss"
            )
        further = partial(_examined_earlier, run, tokenizer, lesson.source)
        inputs = replace(inputs, examined=run.lessons.build_new(run.plan), further_checks=further)
    return run_training(inputs) | figures | chart_rows(work)


def _examined_earlier(run: _Run, tokenizer: Tokenizer, mixed: Any) -> list[doctor.CheckResult]:
    """What the doctor says of the earlier data, and of the rows that both give together."""
    lesson, frozen = run.lessons.build_replay(run.plan), run.tuning.frozen
    assert isinstance(lesson.data, TokenShards)
    assert isinstance(mixed, ReplaySource)
    return doctor.check_replay(mixed, run.plan.n_rows) + doctor.run_checks(
        run.model,
        tokenizer,
        lesson.source,
        lesson.data,
        run.plan,
        lesson.objective,
        spec_of(lesson.kind, run.model),
        frozen=frozen,
    )


def _save(
    run: _Run,
    tokenizer: Tokenizer,
    out: Path,
    overwrite: bool,
    stage: str,
    learned: ObjectiveName | TaskName,
    parents: list[Path],
    figures: dict[str, Any],
    work: Path,
) -> None:
    config = {"stage": stage, "learned": learned, "chat": learned == "chat" or run.talks}
    config |= {"replay_share": run.lessons.earlier.share} if run.lessons.earlier else {}
    config |= {"plan": run.plan.model_dump(mode="json")}
    known = [parent for parent in parents if (parent / LINEAGE).is_file()]  # a foreign folder has no lineage
    adapter = run.tuning.adapter
    lineage = Lineage("adapter" if adapter else "model", config, list(known), run.plan.seed, figures)
    name = out.resolve().parent.name
    started = time.monotonic()
    logs = [work / METRICS, work / EVENTS]
    if adapter:
        card = adapter_card(name, parents[0].name, getattr(run.lessons.training, "method", "full"), figures)
        save_adapter(run.model, adapter, parents[0], out, lineage, overwrite, card=card, logs=logs)
    else:
        card = stage_card(name, stage, figures)
        save_model(run.model, tokenizer, out, lineage, overwrite, card=card, logs=logs)
    log(f"{stage}: written to {out} in {time.monotonic() - started:.1f}s")
