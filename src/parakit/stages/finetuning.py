"""Fine-tuning: a trained or new model with the head of its task, on conversations or examples."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from parakit.common.files import JsonObject
from parakit.common.seeds import seed_everything
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import Embedder, TransformerModel
from parakit.stages.comparison.measuring import plan_comparison
from parakit.stages.config import FinetuneConfig, LoraFinetuneConfig
from parakit.stages.defaults.memory import fit_memory, longest_example
from parakit.stages.defaults.published import tuning_config, tuning_sizing
from parakit.stages.finetune_methods import adjust_plan, adjust_sizing, check_method_fits, setup_method
from parakit.stages.job import PreparedRun
from parakit.stages.plans import ModelSpec, plan_by_timing
from parakit.stages.pretraining import add_replay, start_new, with_replayed
from parakit.stages.run_dir import load_plan, save_plan
from parakit.stages.task_models import load_to_train, set_languages, task_model
from parakit.stages.tasks import ReplayData, Splits, TaskBuilder, task_settings
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor.setup import TrainingSetup
from parakit.training.pace import TimeBudget
from parakit.training.task_names import TaskName
from parakit.training.tasks import TaskSettings


@dataclass(frozen=True)
class FromScratch:
    """A new model instead of a trained one, and its tokenizer."""

    tokenizer: Path
    model_spec: ModelSpec


@dataclass(frozen=True)
class FinetuneJob:
    """Fine-tune `model` on the shards of a task: all weights, some layers, or an adapter."""

    model: Path | FromScratch
    shards: Path
    work: Path
    training: FinetuneConfig
    budget: TimeBudget | None = field(default=None, compare=False)

    @property
    def task(self) -> TaskName:
        """The task of the settings."""
        return self.training.task

    def inputs(self) -> list[Path]:
        """Model or tokenizer, shards, and replayed shards."""
        first = self.model.tokenizer if isinstance(self.model, FromScratch) else self.model
        return with_replayed([first, self.shards], self.training)

    def to_spec(self) -> JsonObject:
        """A new model's size, and the time."""
        spec = self.model.model_spec.to_spec() if isinstance(self.model, FromScratch) else {}
        return spec | (self.budget.to_spec() if self.budget else {})

    def prepare(self, run_dir: Path) -> PreparedRun:
        """A new model, or the trained one."""
        if not isinstance(self.model, FromScratch):
            return self._start_finetune(self.model, run_dir)
        check_method_fits(None, self.training)
        tokenizer, splits = Tokenizer.load(self.model.tokenizer), Splits.of_task(self.shards, self.task)
        model, builder, plan = start_new(
            "finetune",
            self.model.model_spec,
            self.training,
            self.task,
            tokenizer,
            splits,
            run_dir,
            add_head=partial(self._with_head, splits=splits),
            seconds=self._seconds,
        )
        setup = TrainingSetup("finetune", model, tokenizer, builder.build(plan), plan, run_dir)
        return PreparedRun(
            "finetune", self.task, setup, self.inputs(), self.task == "chat", summarize=self._summarize
        )

    def _start_finetune(self, folder: Path, run_dir: Path) -> PreparedRun:
        """A trained model with the head of its task."""
        training = tuning_config(folder, self.training)
        check_method_fits(folder, training)
        base, tokenizer = load_to_train(folder, training)
        assert tokenizer is not None, "shards cannot be made without the model's tokenizer"
        if self.task == "embed" and isinstance(base, Embedder) and base.pooling.max_seq_len:
            # texts are cut where the model will cut them
            training = training.replace(seq_len=training.seq_len or base.pooling.max_seq_len)
        base, languages = set_languages(base, tokenizer, training)
        settings = replace(task_settings(training), languages=languages)
        splits = Splits.of_task(self.shards, self.task)
        if isinstance(splits.train, TokenShards) and splits.train.chat_date is not None:
            tokenizer.chat_date = splits.train.chat_date  # served with the date it is trained with
        replay = ReplayData.open(training, self.shards, splits)
        new_turns = self.task == "chat" and not is_chat_tuned(folder)
        saved = load_plan(run_dir)
        plan = (
            saved[1] if saved else self._plan(training, settings, base, tokenizer, splits, replay, new_turns)
        )
        seed_everything(plan.seed)
        model = self._with_head(base, splits)
        builder = TaskBuilder(self.task, splits, model.config, tokenizer, settings, replay)
        method = setup_method(model, training, tokenizer, new_turns)
        if not saved:
            plan = fit_memory(
                "finetune", model, base.config, plan, training, row_tokens=longest_example(splits.train)
            )
        save_plan(run_dir, base.config, plan)
        setup = TrainingSetup(
            "finetune",
            model,
            tokenizer,
            builder.build(plan),
            plan,
            run_dir,
            frozen=method.frozen,
        )
        run = PreparedRun(
            "finetune",
            self.task,
            setup,
            self.inputs(),
            self.task == "chat",
            summarize=self._summarize,
            adapter=method.adapter,
            method=training.method,
            finish=method.finish,
            merge=isinstance(training, LoraFinetuneConfig) and bool(training.merge),
            comparison=plan_comparison(
                training, model, tokenizer, splits.validation, needs_validation=replay is not None
            ),
        )
        return add_replay(run, builder)

    def _plan(
        self,
        training: FinetuneConfig,
        settings: TaskSettings,
        base: TransformerModel,
        tokenizer: Tokenizer,
        splits: Splits,
        replay: ReplayData | None,
        new_turns: bool,
    ) -> TrainingPlan:
        """The plan of tuning `base`, which fits into the job's time, if it has one."""
        assert isinstance(self.model, Path)
        sizing = adjust_sizing(tuning_sizing(self.model, base.config), training)
        builder = TaskBuilder(self.task, splits, base.config, tokenizer, settings, replay)

        def trial() -> TransformerModel:
            model = self._with_head(copy.deepcopy(base), splits)
            setup_method(model, training, tokenizer, new_turns)
            return model

        plan = plan_by_timing(self._seconds, training, sizing, builder, trial, tuning=True)
        return adjust_plan(plan, training)

    @property
    def _seconds(self) -> float | None:
        """The seconds that a run of open length is to last."""
        return self.budget.left if self.budget and self.budget.fills else None

    def _with_head(self, model: TransformerModel, splits: Splits) -> TransformerModel:
        labels: tuple[str, ...] = ()
        if isinstance(splits.train, ExampleShards):
            labels = ("score",) if self.task == "regress" else splits.train.labels
        return task_model(model, self.training, labels)

    def _summarize(self, figures: JsonObject) -> JsonObject:
        return figures | {"task": self.task}
