"""Defaults for tuning a published model, or one that was tuned from it: optimizer, rates, lengths of rows, batches.

A model that Parakit trained from nothing keeps its own (Muon, rows of its whole window). The figures behind the rates
are in docs/decisions/0019-defaults-for-published-models.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np

from parakit.common.artifacts import LINEAGE
from parakit.common.choices import part_of
from parakit.common.devices import pick_device
from parakit.common.files import JsonObject, read_json
from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.presets import ModelSizing, default_hyperparameters
from parakit.stages.tasks import Data
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.shards import TokenShards
from parakit.training.config import (
    AdamBetas,
    MuonConfig,
    TextBatches,
    TrainingConfig,
    TrainingPlan,
    resolve,
    resolve_examples,
)
from parakit.training.precision import faster_precision

# AdamW's rate for all weights; it falls with the width, and a new head on an encoder needs more.
RATE, ENCODER_RATE, RATE_WIDTH = 5e-5, 2e-4, 576
ENCODER_BETAS = (
    0.9,
    0.999,
)  # a few dozen steps on a few hundred labels: a shorter mean of squares is noisier
# Times that rate, by what trains: factors begin at zero and have one scale at every width.
PUBLISHED_FACTORS = {
    "lora": 10.0, "prompt": 200.0, "prefix": 200.0, "reward": 0.2, "dpo": 0.1, "ppo": 0.1, "grpo": 0.1,
    "distill": 5.0,
}  # fmt: skip
MIN_STEPS_PER_EPOCH = 8  # of a small set: its batches are smaller
MAX_BATCH_TOKENS, MAX_BATCH_DOCUMENTS = 8192, 16  # of one step
TEXT_ROWS, MAX_TEXT_LEN = 64, 2048  # a text is cut into at least so many rows, each of at most so many tokens
LENGTH_STEP = 32  # lengths of rows are multiples of it
EPOCHS = 2.0
EXAMPLE_EPOCHS = 3.0
WARMUP_SHARE = 0.1
# A pass forward costs a third of a step: of the training tokens, what one validation reads at most; and their number.
VALIDATION_SHARE, MIN_VALIDATION_TOKENS, N_VALIDATIONS = 0.1, 2048, 4

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)


def is_published(folder: Path) -> bool:
    """Whether the model in this folder was trained elsewhere, or tuned from one that was. Reads lineages only."""
    if not (folder / LINEAGE).is_file():
        return (folder / "config.json").is_file()
    lineage = read_json(folder / LINEAGE)
    if lineage.get("kind") not in ("model", "adapter"):
        return False
    settings: JsonObject = lineage.get("config") or {}
    if "published" in settings:
        return bool(settings["published"])
    parents = [Path(parent["path"]) for parent in lineage.get("parents") or ()]
    if settings.get("stage") == "import" and not parents:
        return True
    return any(is_published(parent) for parent in parents if parent.is_dir())


def tuning_config(folder: Path, training: ConfigT) -> ConfigT:
    """`training` with AdamW for a published model, where the optimizer is left open."""
    given = training.model_fields_set
    of_muon = MuonConfig.model_fields.keys() - AdamBetas.model_fields.keys()
    if given & {"optimizer", *of_muon} or not is_published(folder):
        return training
    return training.replace(optimizer="adamw")


def tuning_sizing(folder: Path, config: ModelConfig) -> ModelSizing:
    """The rates and the batch for tuning the model in `folder`."""
    sizing = default_hyperparameters(config)
    if not is_published(folder):
        return sizing
    rate = ENCODER_RATE if config.family == "encoder" else RATE * min(1.0, RATE_WIDTH / config.d_model)
    return ModelSizing(config, rate, rate, min(sizing.batch_tokens, MAX_BATCH_TOKENS), is_published=True)


def resolve_published_plan(
    training: TrainingConfig, sizing: ModelSizing, data: Data, new_share: float = 1.0
) -> TrainingPlan:
    """The plan of tuning a published model, with rows as long as the data asks for. `new_share` as in `resolve_plan`."""
    window = sizing.config.max_seq_len
    rates: JsonObject = {
        "learning_rate": sizing.learning_rate,
        "embedding_learning_rate": sizing.embedding_learning_rate,
        "max_seq_len": window,
    }
    if isinstance(data, ExampleShards):
        plan = resolve_examples(
            training, n_train_examples=data.n_examples, default_epochs=EXAMPLE_EPOCHS, **rates
        )
        return finish_plan(plan, training, sizing.config)
    batches = part_of(training, TextBatches)
    given = batches.batch_tokens if batches else None
    seq_len = training.seq_len or min(row_length(data, window), given or window)
    plan = resolve(
        training.replace(seq_len=seq_len),
        batch_tokens=max(seq_len, _batch_tokens(data, sizing)),
        n_train_tokens=data.n_tokens,
        default_epochs=EPOCHS / new_share,
        **rates,
    )
    return finish_plan(plan, training, sizing.config, plan.n_tokens())


def finish_plan(
    plan: TrainingPlan, training: TrainingConfig, config: ModelConfig, n_planned_tokens: int | None = None
) -> TrainingPlan:
    """`plan` with the precision that is faster on this CPU, a tenth of the steps to warm up, and validations that take
    about a fifth of the time of training on `n_planned_tokens` (None: over the whole split), where nothing else is given.
    """
    changes: JsonObject = {}
    shape = config.decoder if isinstance(config, EncoderDecoderConfig) else config
    if plan.precision == "auto" and pick_device(plan.device).type == "cpu":
        changes["precision"] = faster_precision(shape.d_model, shape.d_ff)
    if (
        config.family == "encoder"
        and part_of(training, AdamBetas)
        and "adam_betas" not in training.model_fields_set
    ):
        changes["adam_betas"] = ENCODER_BETAS
    if "warmup_steps" not in training.model_fields_set:
        changes["warmup_steps"] = min(plan.warmup_steps, max(1, round(WARMUP_SHARE * plan.max_steps)))
    if n_planned_tokens is not None:
        changes["validation_tokens"] = max(MIN_VALIDATION_TOKENS, round(VALIDATION_SHARE * n_planned_tokens))
        if training.validate_every is None:
            changes["validate_every"] = max(N_VALIDATIONS, -(-plan.max_steps // N_VALIDATIONS))
    return plan.replace(**changes)


def row_length(data: TokenShards, window: int) -> int:
    """Tokens of a row: of conversations as many as all but one in a hundred need, of text as many as give
    `TEXT_ROWS` rows; at most the model's window.
    """
    lengths = np.diff(data.offsets) - 1
    window = max(2, min(window, data.n_tokens - 1))
    if data.loss_mask is not None:
        return length_for(lengths, window)
    longest = min(window, MAX_TEXT_LEN, max(LENGTH_STEP, data.n_tokens // TEXT_ROWS))
    return min(length_for(lengths, window, 100), longest)


def length_for(lengths: np.ndarray, window: int, percentile: float = 99) -> int:
    """The length that `percentile` percent of the lengths do not exceed, rounded up; at most `window`."""
    wanted = int(np.ceil(np.percentile(lengths, percentile, method="higher"))) if len(lengths) else 2
    return max(2, min(window, -(-wanted // LENGTH_STEP) * LENGTH_STEP))


def _batch_tokens(data: TokenShards, sizing: ModelSizing) -> int:
    """Of a step: at most `MAX_BATCH_DOCUMENTS` conversations, and `MIN_STEPS_PER_EPOCH` steps an epoch."""
    tokens = min(sizing.batch_tokens, data.n_tokens // MIN_STEPS_PER_EPOCH)
    if data.loss_mask is not None:
        n_documents = max(1, len(data.offsets) - 1)
        tokens = min(tokens, MAX_BATCH_DOCUMENTS * data.n_tokens // n_documents)
    return max(2, tokens)
