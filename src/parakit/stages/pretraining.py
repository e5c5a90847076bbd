"""Pre-training: a new model on token shards, or a trained one that continues, with replay of its earlier data."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from parakit.checkpoints.adapters.base_model import require_full_model
from parakit.checkpoints.folder_safety import require_model_folder
from parakit.checkpoints.model_folder import require_plain_weights
from parakit.checkpoints.sharded.empty_weights import build_without_memory
from parakit.checkpoints.sharded.tensor_parts import copy_part
from parakit.common.artifacts import open_artifact
from parakit.common.choices import part_of
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.seeds import seed_everything
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import TransformerModel
from parakit.stages.comparison.measuring import plan_comparison
from parakit.stages.config import EmbeddingInit, FinetuneConfig, PretrainConfig, replay_of
from parakit.stages.corpora.file_losses import add_file_losses
from parakit.stages.corpora.mixture_figures import add_mixture
from parakit.stages.defaults.memory import fit_memory
from parakit.stages.defaults.published import tuning_config, tuning_sizing
from parakit.stages.job import PreparedRun
from parakit.stages.plans import ModelSpec, choose_model_size, plan_by_timing
from parakit.stages.run_dir import has_checkpoint, load_plan, save_plan
from parakit.stages.task_models import (
    build_model,
    continue_pretraining,
    load_to_train,
    warn_own_layout,
    with_dropout,
)
from parakit.stages.tasks import ReplayData, Splits, TaskBuilder, task_settings
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.config import TrainingPlan
from parakit.training.doctor.setup import TrainingSetup, check_task
from parakit.training.initialization import init_embeddings_from_cooccurrence, widen_embeddings
from parakit.training.pace import TimeBudget
from parakit.training.task_names import ObjectiveName, TaskName, check_objective


@dataclass(frozen=True)
class PretrainJob:
    """Pre-train a model on `shards`: a new one with `tokenizer` and `model_spec`, or `training.model`, which continues
    with its own.
    """

    shards: Path
    tokenizer: Path | None
    work: Path
    training: PretrainConfig
    model_spec: ModelSpec = field(default_factory=ModelSpec)
    budget: TimeBudget | None = field(default=None, compare=False)

    @property
    def objective(self) -> ObjectiveName:
        """The objective of the settings."""
        return self.training.objective

    def inputs(self) -> list[Path]:
        """Shards, model or tokenizer, and replayed shards."""
        return with_replayed([open_shards(self.shards), self._start_folder()], self.training)

    def to_spec(self) -> JsonObject:
        """The model's size, and the time."""
        return self.model_spec.to_spec() | (self.budget.to_spec() if self.budget else {})

    def prepare(self, run_dir: Path) -> PreparedRun:
        """A new model, or the trained one."""
        if self.training.model:
            return self._continue(run_dir)
        tokenizer = Tokenizer.load(self._start_folder())
        splits = Splits.of_text(self.shards, self.model_spec.family)
        model, builder, plan = start_new(
            "pretrain",
            self.model_spec,
            self.training,
            self.objective,
            tokenizer,
            splits,
            run_dir,
            seconds=self.budget.left if self.budget else None,
        )
        setup = TrainingSetup("pretrain", model, tokenizer, builder.build(plan), plan, run_dir)
        run = PreparedRun("pretrain", self.objective, setup, self.inputs())
        return add_file_losses(add_mixture(run, splits), splits, self.shards)

    def _start_folder(self) -> Path:
        folder = require_model_folder(self.training.model) if self.training.model else self.tokenizer
        assert folder is not None, "a new model needs a tokenizer"
        return folder

    def _continue(self, run_dir: Path) -> PreparedRun:
        """A trained model continues, with smaller steps than a new one."""
        folder = self._start_folder()
        training = tuning_config(folder, self.training)
        require_full_model(folder, "pre-training")
        require_plain_weights(folder, "pre-training")
        base, tokenizer = load_to_train(folder, training)
        if tokenizer is None:
            raise UserError(
                f"{folder}: has no tokenizer, so no text can be read", "put the model's tokenizer there"
            )
        check_objective(self.objective, base.config.family)
        splits = Splits.of_text(self.shards, base.config.family)
        replay = ReplayData.open(training, self.shards, splits)
        model = continue_pretraining(base, training.dropout)
        warn_own_layout(model.config)
        settings = task_settings(training)
        builder = TaskBuilder(self.objective, splits, model.config, tokenizer, settings, replay)
        if saved := load_plan(run_dir):
            plan = saved[1]
        else:
            plan = plan_by_timing(
                self.budget.left if self.budget else None,
                training,
                tuning_sizing(folder, model.config),
                builder,
                lambda: copy.deepcopy(model),
                tuning=True,
            )
            plan = fit_memory("pretrain", model, model.config, plan, training)
            save_plan(run_dir, model.config, plan)
        seed_everything(plan.seed)
        setup = TrainingSetup("pretrain", model, tokenizer, builder.build(plan), plan, run_dir)
        compared = plan_comparison(
            training, model, tokenizer, splits.validation, needs_validation=replay is not None
        )
        run = PreparedRun("pretrain", self.objective, setup, self.inputs(), is_chat_tuned(folder))
        run = add_mixture(add_replay(replace(run, comparison=compared), builder), splits)
        return add_file_losses(run, splits, self.shards)


def start_new(
    title: str,
    model_spec: ModelSpec,
    training: PretrainConfig | FinetuneConfig,
    task: ObjectiveName | TaskName,
    tokenizer: Tokenizer,
    splits: Splits,
    run_dir: Path,
    add_head: Callable[[TransformerModel], TransformerModel] = lambda model: model,
    seconds: float | None = None,
) -> tuple[TransformerModel, TaskBuilder, TrainingPlan]:
    """A new model of the size that `model_spec` describes, or that can be trained in `seconds`; or the one that an
    interrupted run started with.
    """
    if replay := replay_of(training):
        raise UserError(
            f"{replay}: replay needs a trained model, and this one is new", "name a trained model to continue"
        )
    settings = task_settings(training)
    saved = load_plan(run_dir)
    if saved:
        config, plan = saved
        builder = TaskBuilder(task, splits, config, tokenizer, settings)
    else:
        sizing = choose_model_size(model_spec, training, tokenizer.vocab_size, splits.train, seconds)
        config = with_dropout(sizing.config, training.dropout)
        warn_own_layout(config)
        log(f"{title}: {sizing.describe()}")
        builder = TaskBuilder(task, splits, config, tokenizer, settings)
        plan = plan_by_timing(seconds, training, sizing, builder, lambda: add_head(build_model(config)))
        save_plan(run_dir, config, plan)
    seed_everything(plan.seed)
    init = part_of(training, EmbeddingInit)
    start = init.embedding_init if init is not None else "random"
    if plan.in_parts:
        if start != "random":
            raise UserError(f"embedding_init = {start} needs the whole model", "leave it or in_parts out")
        return build_without_memory(lambda: add_head(build_model(config)), copy_part), builder, plan
    model = build_model(config)
    if not has_checkpoint(run_dir):  # which has the vectors
        if start == "wide":
            widen_embeddings(model.trunk.token_embedding)
        elif start == "cooccurrence":
            _init_embeddings(model, splits, tokenizer, plan.seed)
    return add_head(model), builder, plan


def _init_embeddings(model: TransformerModel, splits: Splits, tokenizer: Tokenizer, seed: int) -> None:
    """Start with token vectors from co-occurrence counts of the training split."""
    assert isinstance(splits.train, TokenShards)
    ignored = np.flatnonzero(VocabInfo.from_tokenizer(tokenizer).special).tolist()
    started = time.monotonic()
    n = init_embeddings_from_cooccurrence(model.trunk.token_embedding, splits.train, ignored, seed)
    log(f"{n:,} token vectors counted in {time.monotonic() - started:.1f}s")


def add_replay(run: PreparedRun, builder: TaskBuilder) -> PreparedRun:
    """`run` with the doctor's checks and the figures of the replay data; unchanged without replay."""
    replay, setup = builder.replay, run.setup
    if replay is None:
        return run
    log(f"{setup.title}: {replay.share:.0%} of the rows are replayed")
    n_seen = replay.n_seen(builder.splits)
    if n_seen:
        log(
            f"{setup.title}: {n_seen} held-out documents of the replay data also occur in the new data, which lowers its loss"
        )

    def check_replay() -> list[doctor.CheckResult]:
        task = builder.build_replay(setup.plan)
        assert isinstance(task.data, TokenShards)
        assert isinstance(setup.task.source, ReplaySource)
        return doctor.check_replay(setup.task.source, setup.plan.n_rows) + check_task(setup, task)

    def summarize(figures: JsonObject) -> JsonObject:
        counts = {"replay_share": replay.share, "earlier_documents_seen": n_seen}
        return run.summarize(figures | counts)

    return replace(
        run,
        setup=replace(setup, checked_task=builder.build_new(setup.plan), more_checks=check_replay),
        settings=run.settings | {"replay_share": replay.share},
        summarize=summarize,
    )


def with_replayed(inputs: list[Path], training: PretrainConfig | FinetuneConfig) -> list[Path]:
    """`inputs`, and the shards that `training` replays."""
    return [*inputs, open_shards(replay)] if (replay := replay_of(training)) else inputs


def open_shards(path: str | Path) -> Path:
    """`path`, after a check that it holds token shards; their digests are verified when they are read."""
    return open_artifact(path, "shards", verify=False).path
