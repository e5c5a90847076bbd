"""The memory that a tuning needs: printed before it starts, fitted to the machine, or refused with what would fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.hardware import available_memory
from parakit.common.processes import is_distributed, local_world_size, world_size
from parakit.common.progress import log
from parakit.model.config import ModelConfig
from parakit.model.quantized.layers import QuantizedWeight
from parakit.planning.run_memory import RunBytes, step_bytes
from parakit.planning.training_memory import FLOAT, StepShape
from parakit.stages.tasks import Data
from parakit.tokens.examples.shards import ExampleShards
from parakit.training.config import TrainingConfig, TrainingPlan
from parakit.training.parallel.layout import choose_layout

USABLE = 0.9  # of the memory that is left: the rest is for what the estimate misses
TOLD_PARAMETERS = 20_000_000  # the needs of a smaller model are not worth a line


def fit_memory(
    title: str,
    model: nn.Module,
    config: ModelConfig,
    plan: TrainingPlan,
    training: TrainingConfig,
    *,
    row_tokens: int | None = None,
    texts_per_row: int = 1,
    max_logits: int = 0,
    available: int | None = None,
) -> TrainingPlan:
    """`plan` with as many rows per forward pass as fit, and gradient checkpointing where one row does not fit without and
    on a quantized base, which is taken to save memory and not compiled; what is given stays. Logs the need of a large model.
    `available` (bytes) None: what the machine has left.

    `row_tokens`: of the longest row, where that is less than the plan's; `texts_per_row`: 2 where a row is a pair of
    completions; `max_logits`: so many logits exist as a whole. Raises `UserError` with the nearest setting that fits.
    """
    shape, n_parameters = _shape_of(model, config)
    if n_parameters < TOLD_PARAMETERS:
        return plan
    if shape.quantized:
        plan = _saving_memory(plan, training)
    if available is None:
        available = _available(plan)
    shape, n_shares = _in_processes(shape, plan, available)
    on_card = pick_device(plan.device).type != "cpu"

    def need(plan: TrainingPlan) -> RunBytes:
        n_rows = min(plan.micro_batch_size, -(-plan.n_rows // n_shares))
        n_tokens = n_rows * texts_per_row * min(plan.seq_len, row_tokens or plan.seq_len)
        step = replace(
            shape, optimizer=plan.optimizer, n_tokens=n_tokens, n_predicted=n_tokens, on_card=on_card,
            checkpointing=plan.gradient_checkpointing and plan.checkpoint_every == 1,
            accumulates=plan.n_rows > plan.micro_batch_size * n_shares,
            half=plan.precision in ("bfloat16", "float16"), max_whole_logits=max_logits,
        )  # fmt: skip
        return step_bytes(step)

    limit = None
    if available is not None:
        there = 0 if plan.in_parts else shape.weight_bytes  # the weights are there already
        limit = int(USABLE * available) + there
    tried = _candidates(plan, training)
    fitting = next((one for one in tried if limit is None or need(one).peak <= limit), None)
    if fitting is None:
        assert limit is not None
        raise UserError(
            f"{title}: needs {need(tried[-1]).describe()}, and {limit / 1e9:.1f} GB can be used",
            _what_fits(tried[-1], need, limit, config, None if shape.frozen else shape.n_trained),
        )
    extra = ", blocks computed twice (gradient checkpointing)" if fitting.gradient_checkpointing else ""
    left = "" if limit is None else f"; {limit / 1e9:.1f} GB can be used"
    log(f"{title}: {need(fitting).describe()}, {fitting.micro_batch_size} rows at a time{extra}{left}")
    return fitting


def _shape_of(model: nn.Module, config: ModelConfig) -> tuple[StepShape, int]:
    """What a step holds of the model whatever its rows are, and the model's parameters, quantized ones among them."""
    n_parameters = sum(p.numel() for p in model.parameters())
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    quantized = [each for each in model.modules() if isinstance(each, QuantizedWeight) and each.own_buffers]
    quantized_bytes = sum(buffer.nbytes for module in quantized for buffer in module.buffers(recurse=False))
    weights = FLOAT * n_parameters + quantized_bytes
    frozen = bool(quantized) or n_trained < n_parameters / 2
    shape = StepShape(config, weights, n_trained, "adamw", 0, 0, frozen=frozen, quantized=bool(quantized))
    return shape, n_parameters + sum(math.prod(module.shape) for module in quantized)


def _in_processes(shape: StepShape, plan: TrainingPlan, available: int | None) -> tuple[StepShape, int]:
    """What one of the run's processes holds, and how many parts the rows of a step are dealt in."""
    if not is_distributed():
        return shape, 1
    layout = choose_layout(plan.parallel, world_size(), shape.n_trained, available, plan.n_rows)
    n_parts = layout.shard * layout.tensor
    weight_bytes = shape.weight_bytes // (n_parts if plan.in_parts else 1)
    return replace(
        shape, n_trained=-(-shape.n_trained // n_parts), weight_bytes=weight_bytes
    ), layout.n_shares


def _candidates(plan: TrainingPlan, training: TrainingConfig) -> list[TrainingPlan]:
    """Plans of ever less memory, as far as the settings are open."""
    tried = [plan]
    if training.micro_batch_size is None:
        tried += [plan.replace(micro_batch_size=n) for n in _smaller(plan.micro_batch_size)]
    if training.gradient_checkpointing == "auto" and not plan.gradient_checkpointing:
        tried += [one.replace(gradient_checkpointing=True) for one in tried]
    return tried


def _saving_memory(plan: TrainingPlan, training: TrainingConfig) -> TrainingPlan:
    """`plan` for adapters on quantized weights, where nothing else is set."""
    if training.gradient_checkpointing == "auto":
        plan = plan.replace(gradient_checkpointing=True)
    if training.compile == "auto":  # PyTorch's compiler alone takes more memory than int4 weights
        plan = plan.replace(compile="off")
    return plan


def _smaller(n_rows: int) -> list[int]:
    """Halves of a number of rows, down to one."""
    return [max(1, n_rows >> shift) for shift in range(1, n_rows.bit_length())]


def _available(plan: TrainingPlan) -> int | None:
    device = pick_device(plan.device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    memory = available_memory() if device.type == "cpu" else None
    return None if memory is None else memory // local_world_size()


def _what_fits(
    plan: TrainingPlan,
    need: Callable[[TrainingPlan], RunBytes],
    limit: int,
    config: ModelConfig,
    all_trained: int | None,
) -> str:
    """What to change so that the run fits; `all_trained`: the model's parameters where every one is trained."""
    smallest = plan.replace(micro_batch_size=1)
    if need(smallest).peak <= limit:
        return "lower micro_batch_size to 1"
    if not plan.gradient_checkpointing and need(smallest.replace(gradient_checkpointing=True)).peak <= limit:
        return "set gradient_checkpointing to on and micro_batch_size to 1"
    smallest = smallest.replace(gradient_checkpointing=True)
    lengths = range(plan.seq_len - 16, 15, -16)
    if fitting := next((n for n in lengths if need(smallest.replace(seq_len=n)).peak <= limit), None):
        return f"set seq_len to {fitting} and micro_batch_size to 1 and gradient_checkpointing to on"
    if all_trained and _adapter_bytes(plan, config, all_trained) <= limit:
        return (
            "train an adapter (--method lora), which needs no moments of the weights, or take a smaller model"
        )
    return "take a smaller model, or a machine with more memory"


def _adapter_bytes(plan: TrainingPlan, config: ModelConfig, n_parameters: int) -> int:
    """The least that tuning by low-rank factors needs, of a hundredth of the parameters and the shortest row."""
    shortest = min(plan.seq_len, 16)
    step = StepShape(
        config,
        FLOAT * n_parameters,
        n_parameters // 100,
        "adamw",
        shortest,
        shortest,
        frozen=True,
        checkpointing=True,
    )
    return step_bytes(step).peak


def longest_example(data: Data) -> int | None:
    """Tokens of the longest example, with its special tokens; None for text, whose rows are full."""
    if not isinstance(data, ExampleShards):
        return None
    return int(sum(texts.lengths for texts in data.texts.values()).max()) + 4  # type: ignore[union-attr]
