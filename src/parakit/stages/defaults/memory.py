"""The memory that a tuning needs: printed before it starts, fitted to the machine, or refused with what would fit."""

from __future__ import annotations

import torch
from torch import nn

from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.hardware import available_memory
from parakit.common.progress import log
from parakit.model.config import ModelConfig
from parakit.planning.training_memory import TrainingBytes, training_bytes
from parakit.stages.tasks import Data
from parakit.tokens.examples.shards import ExampleShards
from parakit.training.config import TrainingConfig, TrainingPlan

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
    """`plan` with as many rows per forward pass as fit, and gradient checkpointing where one row does not fit without;
    what is given stays. Logs the need of a large model. `available` (bytes) None: what the machine has left.

    `row_tokens`: of the longest row, where that is less than the plan's; `texts_per_row`: 2 where a row is a pair of
    completions; `max_logits`: so many logits exist as a whole. Raises `UserError` with the nearest setting that fits.
    """
    n_parameters = sum(p.numel() for p in model.parameters())
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if n_parameters < TOLD_PARAMETERS:
        return plan
    if available is None:
        available = _available(plan)

    def need(plan: TrainingPlan) -> TrainingBytes:
        n_tokens = plan.micro_batch_size * texts_per_row * min(plan.seq_len, row_tokens or plan.seq_len)
        return training_bytes(
            config,
            n_parameters=n_parameters,
            n_trained=n_trained,
            optimizer=plan.optimizer,
            n_tokens=n_tokens,
            n_predicted=n_tokens
            if plan.precision in ("bfloat16", "float16")
            else min(n_tokens, max_logits // config.vocab_size),
            checkpointing=plan.gradient_checkpointing,
        )

    limit = (
        None if available is None else int(USABLE * available) + 4 * n_parameters
    )  # the weights are there already
    tried = [plan]
    if training.micro_batch_size is None:
        tried += [plan.replace(micro_batch_size=n) for n in _smaller(plan.micro_batch_size)]
    if training.gradient_checkpointing == "auto" and not plan.gradient_checkpointing:
        tried += [one.replace(gradient_checkpointing=True) for one in tried]
    fitting = next((one for one in tried if limit is None or need(one).peak <= limit), None)
    if fitting is None:
        assert limit is not None
        raise UserError(
            f"{title}: needs {need(tried[-1]).describe()}, and {limit / 1e9:.1f} GB can be used",
            _what_fits(tried[-1], need, limit, n_trained == n_parameters),
        )
    extra = ", blocks computed twice (gradient checkpointing)" if fitting.gradient_checkpointing else ""
    left = "" if limit is None else f"; {limit / 1e9:.1f} GB can be used"
    log(f"{title}: {need(fitting).describe()}, {fitting.micro_batch_size} rows at a time{extra}{left}")
    return fitting


def _smaller(n_rows: int) -> list[int]:
    """Halves of a number of rows, down to one."""
    return [max(1, n_rows >> shift) for shift in range(1, n_rows.bit_length())]


def _available(plan: TrainingPlan) -> int | None:
    device = pick_device(plan.device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory() if device.type == "cpu" else None


def _what_fits(plan: TrainingPlan, need: object, limit: int, all_trained: bool) -> str:
    """What to change so that the run fits."""
    assert callable(need)
    fitting = [n for n in range(plan.seq_len // 2, 15, -16) if need(plan.replace(seq_len=n)).peak <= limit]
    if fitting:
        return f"lower seq_len to {fitting[0]} (with micro_batch_size {plan.micro_batch_size})"
    if all_trained:
        return (
            "train an adapter (--method lora), which needs no moments of the weights, or take a smaller model"
        )
    return "take a smaller model, or a machine with more memory"


def longest_example(data: Data) -> int | None:
    """Tokens of the longest example, with its special tokens; None for text, whose rows are full."""
    if not isinstance(data, ExampleShards):
        return None
    return int(sum(texts.lengths for texts in data.texts.values()).max()) + 4  # type: ignore[union-attr]
