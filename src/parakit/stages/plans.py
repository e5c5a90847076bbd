"""Plans a run: size of a new model and length of training, from the settings, the data and the time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Family
from parakit.model.heads import TransformerModel
from parakit.model.model_choices import ModelChoices
from parakit.model.presets import ModelSizing, config_for_size, config_of_shape
from parakit.planning.time import choose_size
from parakit.stages.defaults.published import resolve_published_plan
from parakit.stages.defaults.time_budget import plan_in_time
from parakit.stages.planning.speed import training_speed
from parakit.stages.tasks import Data, TaskBuilder
from parakit.tokens.examples.shards import ExampleShards
from parakit.training import compilation
from parakit.training.config import (
    TextBatches,
    TrainingConfig,
    TrainingPlan,
    lengths_given,
    resolve,
    resolve_examples,
)
from parakit.training.trainer import Trainer

N_TIMED_STEPS = 8  # of a throwaway model, to compute the steps that fit into the time
TIMING_SHARE = 0.03  # of the time
COMPILING_SHARE = 0.1  # of the time, at most: with other work on the machine it takes several times as long
STEP_OVERHEAD = 1.08  # batches, metrics and validation, relative to the timed steps
UNBOUNDED = 10**9  # steps: only the time limits the run
# A new model's run on text that has fewer steps takes smaller ones, of no fewer tokens and rows (docs/log.md).
MIN_STEPS, LEAST_BATCH_TOKENS, LEAST_BATCH_ROWS = 400, 2048, 8
FINETUNE_LEARNING_RATE_FACTOR = 0.25
# A new model's rate for matrices falls with the width where Adam updates them (Yang et al. 2022, "Tensor Programs V", table 3);
# `python -m benchmarks rate_transfer` measures from which width on.
ADAM_LIKE, ADAM_WIDTH = ("adamw", "adam", "schedule_free"), 64
BATCH_EXAMPLES = 32
FINETUNE_EPOCHS, FROM_SCRATCH_EPOCHS = 2.0, 10.0  # over conversations or examples, by default


@dataclass(frozen=True)
class ModelSpec:
    """The settings of a new model. `size` is a parameter count."""

    family: Family = "decoder"
    architecture: str | None = None
    size: str | None = None
    max_seq_len: int = 256
    choices: ModelChoices | None = None

    def to_spec(self) -> JsonObject:
        """What the result depends on."""
        values = {name: value for name, value in vars(self).items() if name != "choices"}
        return values | ({"model": self.choices.model_dump(mode="json")} if self.choices else {})


def choose_model_size(
    spec: ModelSpec, training: TrainingConfig, vocab_size: int, data: Data, seconds: float | None = None
) -> ModelSizing:
    """The config of a new model: of the given size, or the largest that can be trained in the time."""
    shape = (vocab_size, spec.max_seq_len, spec.family, spec.architecture, spec.choices)
    if spec.size:
        return config_for_size(spec.size, *shape)
    if spec.choices and spec.choices.fix_size:
        return config_of_shape(spec.choices, *shape[:-1])
    speed = training_speed(training, spec.max_seq_len)
    return choose_size(600.0 if seconds is None else max(1.0, seconds), speed, n_tokens(data), *shape)


def resolve_plan(
    training: TrainingConfig, sizing: ModelSizing, data: Data, tuning: bool = False, new_share: float = 1.0
) -> TrainingPlan:
    """The plan, in which `sizing` fills what `training` leaves open. `tuning`: smaller steps and fewer epochs, for a
    trained model. `new_share`: the share of rows that are not replayed; an epoch over `data` then takes more steps.
    """
    if training.epochs and new_share < 1:
        training = training.replace(epochs=training.epochs / new_share)
    if sizing.is_published:
        return resolve_published_plan(training, sizing, data, new_share)
    factor = FINETUNE_LEARNING_RATE_FACTOR if tuning else 1.0
    rates: JsonObject = {
        "learning_rate": sizing.learning_rate * factor,
        "embedding_learning_rate": sizing.embedding_learning_rate * factor,
        "max_seq_len": sizing.config.max_seq_len,
    }
    if isinstance(data, ExampleShards):
        epochs = FINETUNE_EPOCHS if tuning else FROM_SCRATCH_EPOCHS
        plan = resolve_examples(
            training,
            n_train_examples=data.n_examples,
            batch_examples=_batch_examples(data, sizing.batch_tokens),
            default_epochs=epochs,
            **rates,
        )
    else:
        plan = resolve(
            training,
            batch_tokens=sizing.batch_tokens,
            n_train_tokens=data.n_tokens,
            default_epochs=(FINETUNE_EPOCHS if tuning else 1.0) / new_share,
            **rates,
        )
    if training.optimizer in ADAM_LIKE and training.learning_rate is None and not tuning:
        narrower = min(1.0, ADAM_WIDTH / sizing.config.d_model)
        plan = plan.replace(learning_rate=plan.learning_rate * narrower)
    return plan


def plan_by_timing(
    seconds: float | None,
    training: TrainingConfig,
    sizing: ModelSizing,
    builder: TaskBuilder,
    trial: Callable[[], TransformerModel],
    tuning: bool = False,
) -> TrainingPlan:
    """The plan of a new model's run, or with `tuning` of a trained model's. Where only the time limits the run (`seconds`
    is given, and no length is), a few steps of a throwaway `trial` model are timed.
    """
    new_share = 1.0 - builder.replay.share if builder.replay else 1.0

    def resolve_with(training: TrainingConfig) -> TrainingPlan:
        return resolve_plan(training, sizing, builder.splits.train, tuning, new_share)

    if seconds is None or lengths_given(training):
        return resolve_with(training)
    if training.in_parts:
        raise UserError(
            "in_parts and a time: a time is planned by steps of a whole model", "set max_steps or epochs"
        )
    if sizing.is_published:
        return plan_in_time(seconds, training, sizing, builder, trial, resolve_with)
    plan = resolve_with(training.replace(max_steps=N_TIMED_STEPS, compile="off"))
    task = builder.build(plan)
    trainer = Trainer(trial(), task.source, task.objective, plan, folder=None)
    timed, got = _time_steps(trainer, TIMING_SHARE * seconds)
    varies = task.spec.progress_unit == "examples"
    step = statistics.mean(timed) if varies else statistics.median(timed)
    if isinstance(training, TextBatches) and training.batch_tokens is None and not tuning:
        n_rows = _rows_of_a_step(plan, seconds / (step * STEP_OVERHEAD))
        step *= n_rows / plan.n_rows
        training = training.replace(batch_tokens=n_rows * plan.seq_len)
    steps = _steps_in(seconds, step * STEP_OVERHEAD, training.compile, trainer, got)
    return resolve_with(training.replace(**steps)).replace(most_steps=UNBOUNDED)


def _rows_of_a_step(plan: TrainingPlan, n_steps: float) -> int:
    """The plan's rows, halved until the time, which holds `n_steps` of the plan, holds `MIN_STEPS`."""
    n_rows = plan.n_rows
    least = max(LEAST_BATCH_ROWS, LEAST_BATCH_TOKENS // plan.seq_len)
    while n_steps * plan.n_rows / n_rows < MIN_STEPS and n_rows // 2 >= least:
        n_rows //= 2
    return n_rows


def _time_steps(trainer: Trainer, seconds: float) -> tuple[list[float], float]:
    """Seconds of the later half of the plan's steps, or of fewer where `seconds` are over; at least two are taken. And
    the part of a processor that this process got: less than one where other work is done on it.
    """
    started, worked, taken = time.monotonic(), time.process_time(), []
    for record in trainer.steps():
        taken.append(record.seconds)
        if len(taken) > 1 and time.monotonic() - started > seconds:
            break
    share = (time.process_time() - worked) / max(1e-9, time.monotonic() - started)
    return taken[len(taken) // 2 :], min(1.0, max(0.01, share))


def n_tokens(data: Data) -> int:
    """Tokens of a split; for examples those of all their texts."""
    if isinstance(data, ExampleShards):
        return sum(int(texts.offsets[-1]) for texts in data.texts.values())
    return data.n_tokens


def _batch_examples(data: ExampleShards, batch_tokens: int) -> int:
    """The default number of examples in a step. Translations fill `batch_tokens` as text does, but with at most twice
    the usual number, or short sentences would make few large steps. A small set gets fifty steps per epoch.
    """
    if data.task != "translate":
        return BATCH_EXAMPLES
    n_fitting = batch_tokens * data.n_examples // max(1, n_tokens(data))
    return max(BATCH_EXAMPLES, min(n_fitting, 2 * BATCH_EXAMPLES, data.n_examples // 50))


def _steps_in(seconds: float, step: float, setting: str, trainer: Trainer, got: float) -> JsonObject:
    """The steps that fit into the time, compiled if that gives more of them. `got`: the part of a processor."""
    n_eager = max(1, int(seconds / step))
    micro_batches = [batch for i in range(4) for batch in trainer.micro_batches(i)]
    varies = compilation.lengths_vary(micro_batches)
    if setting == "off" or not compilation.can_compile(trainer.device) or (varies and setting == "auto"):
        return {"max_steps": n_eager}
    speedup, cost = compilation.expected_gain(trainer.model, trainer.micro_batches(0))
    cost /= got if trainer.device.type == "cpu" else 1.0
    n_compiled = max(1, int((seconds - cost) / step * speedup))
    pays = n_compiled > n_eager and cost < COMPILING_SHARE * seconds
    if setting == "on" or pays:
        return {"max_steps": n_compiled, "compile": "on"}
    return {"max_steps": n_eager, "compile": "off"}
