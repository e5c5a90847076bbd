"""The plan of a run: how large the model is and how long it trains, from what was said, the data and the time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parakit.common.devices import pick_device
from parakit.model.config import Family
from parakit.model.heads import Model
from parakit.model.presets import ModelSizing, config_for_size
from parakit.planning.time import choose_size
from parakit.stages.tasks import Data, TaskBuilder
from parakit.tokens.examples.shards import ExampleShards
from parakit.training import compilation
from parakit.training.config import (
    TrainingConfig,
    TrainingPlan,
    lengths_given,
    resolve,
    resolve_examples,
)
from parakit.training.session import TrainingSession
from parakit.training.throughput import measured_peak_flops

N_TIMED_STEPS = 8  # on a model that is thrown away, to learn how many steps fit into a time
STEP_OVERHEAD = 1.08  # batches, metrics, validation: a time budget is kept, not overrun
LEAST_SECONDS = 10.0  # trained even where the stages before used up the time
TUNED_LEARNING_RATE_SHARE = 0.25
BATCH_EXAMPLES = 32
TUNED_EPOCHS, FRESH_EPOCHS = 2.0, 10.0  # over conversations or examples, where nothing else was said


@dataclass(frozen=True)
class ModelSpec:
    """What a person says about a fresh model. `seconds` is the time that its training may take, of which
    `seconds_spent` are gone already; `size` a parameter count.
    """

    family: Family = "decoder"
    architecture: str | None = None
    size: str | None = None
    seconds: float | None = None
    seconds_spent: float = 0.0
    max_seq_len: int = 256

    @property
    def seconds_left(self) -> float | None:
        """None where there is no limit."""
        return None if self.seconds is None else max(LEAST_SECONDS, self.seconds - self.seconds_spent)

    def said(self) -> dict[str, Any]:
        """What decides the result; the time that stages before took does not."""
        return {name: value for name, value in vars(self).items() if name != "seconds_spent"}


def choose_model_size(
    wanted: ModelSpec, training: TrainingConfig, vocab_size: int, data: Data
) -> ModelSizing:
    """The shape of a fresh model: of the size that was asked for, or the largest that the time can train."""
    shape = (vocab_size, wanted.max_seq_len, wanted.family, wanted.architecture)
    if wanted.size:
        return config_for_size(wanted.size, *shape)
    import torch

    device = pick_device(training.device)
    peak = measured_peak_flops(device.type, torch.float32 if device.type == "cpu" else torch.bfloat16)
    return choose_size(wanted.seconds_left or 600.0, peak, n_tokens(data), *shape)


def resolve_plan(
    training: TrainingConfig, dial: ModelSizing, data: Data, tuning: bool = False, new_share: float = 1.0
) -> TrainingPlan:
    """The plan that the size dial's choices make of what was left open. `tuning` starts from a trained model: smaller
    steps, fewer passes. `new_share` of the rows are `data`'s, so that a pass over them takes more steps.
    """
    if training.epochs and new_share < 1:
        training = training.replace(epochs=training.epochs / new_share)
    share = TUNED_LEARNING_RATE_SHARE if tuning else 1.0
    rates: dict[str, Any] = {
        "learning_rate": dial.learning_rate * share,
        "embedding_learning_rate": dial.embedding_learning_rate * share,
        "max_seq_len": dial.config.max_seq_len,
    }
    if isinstance(data, ExampleShards):
        epochs = TUNED_EPOCHS if tuning else FRESH_EPOCHS
        return resolve_examples(
            training,
            n_train_examples=data.n_examples,
            batch_examples=_batch_examples(data, dial.batch_tokens),
            default_epochs=epochs,
            **rates,
        )
    return resolve(
        training,
        batch_tokens=dial.batch_tokens,
        n_train_tokens=data.n_tokens,
        default_epochs=(TUNED_EPOCHS if tuning else 1.0) / new_share,
        **rates,
    )


def plan_by_timing(
    wanted: ModelSpec,
    training: TrainingConfig,
    dial: ModelSizing,
    lessons: TaskBuilder,
    trial: Callable[[], Model],
    tuning: bool = False,
) -> TrainingPlan:
    """The plan of a fresh model's run, or (`tuning`) of one that goes on from a trained model. A time says how long
    where nothing else does: steps of this very shape are timed, on a `trial` model that is thrown away.
    """
    new_share = 1.0 - lessons.earlier.share if lessons.earlier else 1.0

    def drawn_up(training: TrainingConfig) -> TrainingPlan:
        return resolve_plan(training, dial, lessons.splits.train, tuning, new_share)

    left = wanted.seconds_left
    if left is None or lengths_given(training):
        return drawn_up(training)
    few = drawn_up(training.replace(max_steps=N_TIMED_STEPS, compile="off"))
    lesson = lessons.under(few)
    session = TrainingSession(trial(), lesson.source, lesson.objective, few, folder=None)
    timed = [record.seconds for record in session.steps()][N_TIMED_STEPS // 2 :]
    step = statistics.mean(timed) if lesson.unit == "examples" else statistics.median(timed)
    steps = _steps_in(left, step * STEP_OVERHEAD, training.compile, session)
    return drawn_up(training.replace(**steps))


def n_tokens(data: Data) -> int:
    """Tokens of a split; of examples those of every text."""
    if isinstance(data, ExampleShards):
        return sum(int(texts.offsets[-1]) for texts in data.texts.values())
    return data.n_tokens


def _batch_examples(data: ExampleShards, batch_tokens: int) -> int:
    """Examples of a step where nothing else was said. Translations fill it as text does, but with twice the usual
    number at most: short sentences would make few and large steps. A small set gets fifty steps an epoch.
    """
    if data.task != "translate":
        return BATCH_EXAMPLES
    fitting = batch_tokens * data.n_examples // max(1, n_tokens(data))
    return max(BATCH_EXAMPLES, min(fitting, 2 * BATCH_EXAMPLES, data.n_examples // 50))


def _steps_in(seconds: float, step: float, setting: str, session: TrainingSession) -> dict[str, Any]:
    """How many steps fit into the time, compiled if more do that way."""
    n_eager = max(1, int(seconds / step))
    micro_batches = [batch for i in range(4) for batch in session.micro_batches(i)]
    varies = compilation.lengths_vary(micro_batches)
    if setting == "off" or not compilation.can_compile(session.device) or (varies and setting == "auto"):
        return {"max_steps": n_eager}
    speedup, cost = compilation.expected_gain(session.model, session.micro_batches(0))
    n_compiled = max(1, int((seconds - cost) / step * speedup))
    if setting == "on" or n_compiled > n_eager:
        return {"max_steps": n_compiled, "compile": "on"}
    return {"max_steps": n_eager, "compile": "off"}
