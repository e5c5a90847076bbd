"""Tuning a published model in a given time: an adapter or all weights, how large the steps are, and how many.

A few steps of two rows are timed, on a copy. The batch is the default one, or smaller where the time would hold fewer
than `MIN_STEPS` of it; the length is what fits, and no more than `MAX_EPOCHS` passes over the data.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from parakit.alignment.config import AlignConfig
from parakit.checkpoints.adapters import base_folder
from parakit.checkpoints.loading import read_config
from parakit.common.artifacts import LINEAGE
from parakit.common.devices import pick_device
from parakit.common.files import JsonObject, read_json
from parakit.common.hardware import describe_hardware
from parakit.common.processes import from_first
from parakit.common.progress import log
from parakit.data.preferences.sets import iter_preferences
from parakit.model.config import DecoderConfig, ModelConfig
from parakit.model.heads import TransformerModel
from parakit.model.presets import ModelSizing
from parakit.planning.tuning import choose_tuning
from parakit.stages.config import FinetuneConfig, LoraFinetuneConfig
from parakit.stages.planning.speed import training_speed
from parakit.stages.task_models import build_model
from parakit.stages.tasks import Data, TaskBuilder
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.files import has_tokenizer
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import ExampleBatches, TextBatches, TrainingConfig, TrainingPlan
from parakit.training.trainer import Trainer

N_COUNTED = 64  # rankings whose tokens are counted
RANKING_COST = 2.0  # of a ranking, relative to training on its tokens once: the reference, the validations
N_TIMED, N_TIMED_ROWS = 3, 2  # steps, the first of which is not counted, and rows of each
OVERHEAD = 1.08  # batches and metrics, relative to the timed steps
MAX_VALIDATIONS, SHARE_OF_VALIDATION = 8, 0.15  # in the run, and of its time
MIN_STEPS = 32  # of a run in a given time: with fewer, the rate hardly leaves its warm-up
MAX_EPOCHS = 3.0  # however long the time: more passes teach a trained model its data by heart

Resolve = Callable[[TrainingConfig], TrainingPlan]


def with_method(training: FinetuneConfig, model: Path, shards: Path, seconds: float | None) -> FinetuneConfig:
    """`training` with the method that suits the time: an adapter or all weights of a decoder that learns to chat. A
    method that is set stays, and so does any setting that only one method has.
    """
    config = read_config(model)
    own = training.model_fields_set & (
        LoraFinetuneConfig.model_fields.keys() - FinetuneConfig.model_fields.keys()
    )
    chooses = seconds is not None and "method" not in training.model_fields_set and not own
    if not chooses or training.task != "chat" or not isinstance(config, DecoderConfig):
        return training
    assert seconds is not None
    data = TokenShards.open(shards, "train")
    device = pick_device(training.device)
    seq_len = min(config.max_seq_len, 512)
    in_time = seconds * training_speed(training, seq_len, "full")(config)
    share = data.n_counted / max(1, data.n_tokens)
    learned = min(data.n_counted, in_time * share)
    rank = LoraFinetuneConfig.model_fields["rank"].default
    method, why = from_first(
        "method",
        lambda: choose_tuning(
            config,
            adapter_parameters(config, rank),
            learned,
            _memory(device),
            seq_len=seq_len,
            on_card=device.type != "cpu",
        ),
    )
    log(f"finetune: {'all weights are' if method == 'full' else 'an adapter (LoRA) is'} trained: {why}")
    return training.replace(method=method)


def adapter_parameters(config: ModelConfig, rank: int) -> int:
    """The parameters of a LoRA of this rank on every matrix of the blocks."""
    with torch.device("meta"):
        model = build_model(config)
    layers = (
        layer for block in model.trunk.blocks for layer in block.modules() if isinstance(layer, nn.Linear)
    )
    return sum(rank * (layer.in_features + layer.out_features) for layer in layers)


def plan_in_time(
    seconds: float,
    training: TrainingConfig,
    sizing: ModelSizing,
    builder: TaskBuilder,
    trial: Callable[[], TransformerModel],
    resolve: Resolve,
) -> TrainingPlan:
    """The plan of tuning a published model in `seconds`. `resolve` makes a plan of settings; `trial` a copy to time."""
    usual = resolve(training)
    training = training.replace(precision=usual.precision)  # timed once, not for every candidate
    few: JsonObject = {"max_steps": N_TIMED, "compile": "off", "micro_batch_size": 1}
    few |= _batch(training, min(N_TIMED_ROWS, usual.n_rows), usual.seq_len)
    log(f"timing {N_TIMED} steps on rows of up to {usual.seq_len} tokens")
    per_row = _seconds_per_row(resolve(training.replace(**few)), builder, trial)
    n_validations, left = _validations(seconds, per_row, builder.splits.validation, usual.seq_len)
    n_rows = left / (per_row * OVERHEAD)  # that the time holds
    rows = usual.n_rows
    if not {"batch_tokens", "batch_examples"} & training.model_fields_set:
        rows = max(1, min(rows, int(n_rows / MIN_STEPS)))
    sized = training.replace(**_batch(training, rows, usual.seq_len))
    enough = resolve(sized.replace(epochs=MAX_EPOCHS)).max_steps
    steps = max(1, min(int(n_rows / rows), enough))
    log(
        f"a row of up to {usual.seq_len} tokens takes {per_row:.2g} s: {steps} steps of {rows} rows"
        + (f" ({MAX_EPOCHS:g} passes over the data; the time would hold more)" if steps == enough else "")
    )
    every = training.validate_every or max(1, -(-steps // n_validations))
    return resolve(sized.replace(max_steps=steps, validate_every=every)).replace(most_steps=enough)


def _validations(seconds: float, per_row: float, data: Data, seq_len: int) -> tuple[int, float]:
    """How many validations the run has, and the seconds that they leave to train. The loss before the first step is
    measured as well, and a forward pass takes a third of a step.
    """
    n_rows = data.n_examples if isinstance(data, ExampleShards) else max(1.0, data.n_tokens / seq_len)
    each = n_rows * per_row / 3
    n = max(1, min(MAX_VALIDATIONS, int(SHARE_OF_VALIDATION * seconds / each)))
    return n, max(seconds / 2, seconds - (n + 1) * each)


def epochs_in_time(training: AlignConfig, model: Path, preferences: Path, seconds: float) -> float:
    """Of preference tuning: how many passes over the rankings fit into the time, at the speed at which the model before
    was trained.
    """
    speed = (
        read_json(model / LINEAGE)["result"].get("tokens_per_second") if (model / LINEAGE).is_file() else None
    )
    if not speed:
        config = read_config(model)
        speed = training_speed(training, min(config.max_seq_len, 512), "full")(config)
    rankings = list(iter_preferences(preferences, "train"))
    tokenizer = Tokenizer.load(model if has_tokenizer(model) else base_folder(model))
    shown = rankings[:N_COUNTED]
    texts = [text for one in shown for text in (*(m.content for m in one.prompt), *one.completions)]
    n_tokens = sum(len(ids) for ids in tokenizer.encode_bulk(texts)) / max(1, len(shown))
    fitting = max(0.0, seconds) * speed / (RANKING_COST * n_tokens * max(1, len(rankings)))
    if fitting < 1.0:
        log(f"{training.method}: {fitting:.0%} of the {len(rankings):,} rankings fit into {seconds:.0f} s")
    return max(fitting, 1.0 / max(1, len(rankings)))


def _batch(training: TrainingConfig, rows: int, seq_len: int) -> JsonObject:
    if isinstance(training, TextBatches):
        return {"batch_tokens": rows * seq_len, "seq_len": seq_len}
    return {"batch_examples": rows} if isinstance(training, ExampleBatches) else {}


def _seconds_per_row(
    plan: TrainingPlan, builder: TaskBuilder, trial: Callable[[], TransformerModel]
) -> float:
    task = builder.build(plan)
    trainer = Trainer(trial(), task.source, task.objective, plan, folder=None)
    times = [record.seconds for record in trainer.steps()][1:]
    del trainer
    gc.collect()  # the copy, its gradients and its moments: as much memory as the run itself needs
    return sum(times) / len(times) / plan.n_rows


def _memory(device: torch.device) -> float | None:
    """Bytes of the device's memory."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    gib = describe_hardware().get("memory_gib")
    return float(gib) * 2**30 if isinstance(gib, int | float) else None
