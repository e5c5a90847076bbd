"""One interface to batches of every type: real positions, positions that may count, content of a row, the model's output.

Checks are written once against these functions; a new type of batch is added here only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.model.heads import RewardModel
from parakit.model.quantized.layers import QuantizedWeight
from parakit.tokens.batches.batch import (
    AnyBatch,
    Batch,
    LabelledBatch,
    PairBatch,
    RankingBatch,
    TextPairBatch,
)
from parakit.training import micro_batches
from parakit.training.doctor.turn_markers import segments
from parakit.training.micro_batches import (
    LabelledMicroBatch,
    MicroBatch,
    PairMicroBatch,
    RankingMicroBatch,
    TextPairMicroBatch,
    TrainingBatch,
)

TOKEN_FIELDS = ("input_ids", "target_ids", "source_ids", "first_ids", "second_ids", "negative_ids")


def arrays(batch: AnyBatch) -> dict[str, np.ndarray]:
    """The arrays of a batch by field; the first dimension of each is the rows."""
    named = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


def n_rows(batch: AnyBatch) -> int:
    """Rows of a batch."""
    return len(next(iter(arrays(batch).values())))


def token_fields(batch: AnyBatch) -> dict[str, np.ndarray]:
    """The fields of token ids, each with its real positions: name -> (B, T) bool."""
    return {name: real_positions(batch, name) for name in arrays(batch) if name in TOKEN_FIELDS}


@singledispatch
def real_positions(batch: object, field: str) -> np.ndarray:
    """(B, T): positions of this field that are not padding."""
    raise TypeError(f"no real_positions for {type(batch).__name__}")


@real_positions.register
def _of_tokens(batch: Batch, field: str) -> np.ndarray:
    return batch.document_ids >= 0


@real_positions.register
def _of_pairs(batch: PairBatch, field: str) -> np.ndarray:
    return batch.source_mask if field.startswith("source") else target_positions(batch)


@real_positions.register
def _of_labelled(batch: LabelledBatch, field: str) -> np.ndarray:
    if field == "labels" and batch.loss_mask is None:  # (B, L), not one for each token
        return np.ones_like(batch.labels, np.bool_)
    return batch.attention_mask


@real_positions.register
def _of_text_pairs(batch: TextPairBatch, field: str) -> np.ndarray:
    if field.startswith("negative"):
        assert batch.negative_mask is not None
        return batch.negative_mask
    return batch.second_mask if field.startswith("second") else batch.first_mask


@real_positions.register
def _of_rankings(batch: RankingBatch, field: str) -> np.ndarray:
    """(R, K, T), or (R, K) for a field with one number per completion."""
    if getattr(batch, field).ndim == 3:
        return batch.real_mask
    return np.asarray(batch.real_mask.any(-1))


def target_positions(batch: PairBatch) -> np.ndarray:
    """(B, T): positions of real targets. Without document ids: up to the last counted one of a row."""
    if batch.document_ids is not None:
        return batch.document_ids >= 0
    return np.logical_or.accumulate(batch.loss_mask[:, ::-1], axis=1)[:, ::-1].copy()


def loss_positions(batch: AnyBatch) -> np.ndarray | None:
    """(B, T): positions whose target may count; None where whole rows count."""
    if isinstance(batch, Batch):
        return batch.document_ids >= 0
    if isinstance(batch, RankingBatch):
        return None
    mask = getattr(batch, "loss_mask", None)
    return mask if isinstance(mask, np.ndarray) else None


def row_content(batch: AnyBatch, row: int) -> list[np.ndarray]:
    """Content of a row without its padding: equal for equal rows, whatever the width of their batches."""
    return [
        value[row] if value.ndim == 1 else value[row][real_positions(batch, name)[row]]
        for name, value in arrays(batch).items()
    ]


def micro_batch(model: torch.nn.Module, batch: AnyBatch) -> Any:
    """The micro-batch that training makes, on the model's device."""
    return micro_batches.to_micro_batch(batch, next(model.parameters()).device)


@torch.no_grad()
def outputs(model: torch.nn.Module, batch: AnyBatch) -> Tensor:
    """Model outputs in float64: (B, T, V) logits, (B, L) or (B, T, L) scores, (B, D) vectors of the first texts, or (B,)
    rewards.
    """
    return forward(model, micro_batch(model, batch)).double().cpu()


def forward(model: Any, micro: TrainingBatch) -> Tensor:
    """One forward pass with the head applied to every position."""
    if isinstance(micro, RankingMicroBatch):
        if isinstance(model, RewardModel):
            return model(micro.full_ids, attention_mask=micro.full_mask)
        return model(micro.input_ids, attention_mask=micro.real_mask)
    if isinstance(micro, MicroBatch):
        return model(micro.input_ids, position_ids=micro.position_ids, attention_mask=micro.attention_mask)
    if isinstance(micro, PairMicroBatch):
        source = model.encode(
            micro.source_ids, position_ids=micro.source_position_ids, attention_mask=micro.source_mask
        )
        return model.logits(
            model.hidden(
                micro.input_ids,
                position_ids=micro.position_ids,
                attention_mask=micro.attention_mask,
                source=source,
                source_mask=micro.cross_mask,
            )
        )
    if isinstance(micro, LabelledMicroBatch):
        return model(
            micro.input_ids, attention_mask=micro.attention_mask, token_type_ids=micro.token_type_ids
        )
    assert isinstance(micro, TextPairMicroBatch), type(micro)
    return model(micro.first_ids, attention_mask=micro.first_mask)


def ranking_log_probs(model: Any, micro: RankingMicroBatch) -> Tensor:
    """(N,) in float64: the log-probability of each completion, from all logits."""
    log_p = forward(model, micro).double().log_softmax(-1).gather(-1, micro.target_ids[..., None]).squeeze(-1)
    return (log_p * micro.loss_mask).sum(1)


def outputs_differ(one: Tensor, other: Tensor, model: torch.nn.Module) -> bool:
    """Whether outputs differ by more than rounding, which products with quantized matrices do to their inputs too."""
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    rounds = half or any(isinstance(module, QuantizedWeight) for module in model.modules())
    return bool((one - other).abs().max() > (5e-2 if rounds else 1e-3) * (1e-6 + other.std()))


Index = Tensor | tuple[int, ...]


def depends_on(
    module: torch.nn.Module, run: Callable[[], Tensor], output: Index, at: Index | None = None
) -> bool:
    """Whether `run()[output]` depends on what `module` returns (where `at` is given: on that part of it).

    By the gradient: it is exactly zero where attention is masked, and needs no threshold. The outputs themselves may
    differ by less than rounding in a model that is barely trained or whose attention is sharp.
    """
    vectors: list[Tensor] = []

    def cut_off(module: torch.nn.Module, inputs: object, output: Tensor) -> Tensor:
        vectors.append(output.detach().requires_grad_())
        return vectors[-1]

    with module.register_forward_hook(cut_off), torch.enable_grad():
        out = run()[output].double()
        if not out.requires_grad:
            return False
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(out.shape, generator=generator).to(out)  # a plain sum is constant behind a norm
        (slope,) = torch.autograd.grad((out * weights).sum(), vectors[0], materialize_grads=True)
    return bool((slope if at is None else slope[at]).any())


def substitute_ids(model: Any, token_ids: np.ndarray) -> np.ndarray:
    """Other ids of the vocabulary, one for each."""
    return (token_ids + 1) % model.config.vocab_size


def target_segments(batch: PairBatch) -> list[tuple[int, int, int]]:
    """Row, begin and end of each target."""
    real = target_positions(batch)
    numbers = np.where(real, 0 if batch.document_ids is None else batch.document_ids, -1)
    return [
        (row, begin, end)
        for row in range(len(numbers))
        for begin, end in segments(numbers[row])
        if numbers[row, begin] >= 0
    ]


def completions(batch: RankingBatch) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Ranking, place, ids, and which of them count, of every completion with its prompt. The first id never counts."""
    for row, place in np.argwhere(batch.real_mask.any(-1)):
        real = batch.real_mask[row, place]
        ids = np.concatenate([batch.input_ids[row, place, :1], batch.target_ids[row, place][real]])
        counted = np.concatenate([[False], batch.loss_mask[row, place][real]])
        yield int(row), int(place), ids, counted
