"""One look at batches of any kind: what in them is real, what may count, what a row holds, what a model says to it.

Checks are written once against these, and a new kind of batch needs to be told about here only.
"""

from __future__ import annotations

from dataclasses import fields
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.model.heads import RewardModel
from parakit.tokens.batches.batch import Batch, LabelledBatch, PairBatch, RankingBatch, TextPairBatch
from parakit.training import micro_batches
from parakit.training.micro_batches import (
    LabelledMicroBatch,
    MicroBatch,
    PairMicroBatch,
    RankingMicroBatch,
    TextPairMicroBatch,
    TrainingBatch,
)

TOKEN_FIELDS = ("input_ids", "target_ids", "source_ids", "first_ids", "second_ids")


def arrays(batch: Any) -> dict[str, np.ndarray]:
    """The arrays of a batch by field; the first dimension of each is the rows."""
    named = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


def n_rows(batch: Any) -> int:
    """Rows of a batch."""
    return len(next(iter(arrays(batch).values())))


def token_fields(batch: Any) -> dict[str, np.ndarray]:
    """Which fields hold token ids, and where each holds real ones: name -> (B, T) bool."""
    return {name: real_places(batch, name) for name in arrays(batch) if name in TOKEN_FIELDS}


@singledispatch
def real_places(batch: Any, field: str) -> np.ndarray:
    """(B, T): where an array of that width holds what is no padding."""
    raise TypeError(f"the doctor knows no {type(batch).__name__}")


@real_places.register
def _of_tokens(batch: Batch, field: str) -> np.ndarray:
    return batch.document_ids >= 0


@real_places.register
def _of_pairs(batch: PairBatch, field: str) -> np.ndarray:
    return batch.source_mask if field.startswith("source") else target_places(batch)


@real_places.register
def _of_labelled(batch: LabelledBatch, field: str) -> np.ndarray:
    return batch.attention_mask


@real_places.register
def _of_text_pairs(batch: TextPairBatch, field: str) -> np.ndarray:
    return batch.second_mask if field.startswith("second") else batch.first_mask


@real_places.register
def _of_rankings(batch: RankingBatch, field: str) -> np.ndarray:
    """(R, K, T), or (R, K) of what is one number a completion."""
    if getattr(batch, field).ndim == 3:
        return batch.real_mask
    return np.asarray(batch.real_mask.any(-1))


def target_places(batch: PairBatch) -> np.ndarray:
    """(B, T): places of real targets. Without document ids, a row's up to its last counted one."""
    if batch.document_ids is not None:
        return batch.document_ids >= 0
    return np.logical_or.accumulate(batch.loss_mask[:, ::-1], axis=1)[:, ::-1].copy()


def countable(batch: Any) -> np.ndarray | None:
    """(B, T): places whose target may count; None where whole rows do."""
    if isinstance(batch, Batch):
        return batch.document_ids >= 0
    if isinstance(batch, RankingBatch):
        return None
    mask = getattr(batch, "loss_mask", None)
    return mask if isinstance(mask, np.ndarray) else None


def row_content(batch: Any, row: int) -> list[np.ndarray]:
    """What a row holds, its padding left out: equal for equal rows, however wide their batches are."""
    return [
        value[row] if value.ndim == 1 else value[row][real_places(batch, name)[row]]
        for name, value in arrays(batch).items()
    ]


def micro_batch(model: torch.nn.Module, batch: Any) -> Any:
    """As training makes it, on the model's device."""
    return micro_batches.to_micro_batch(batch, next(model.parameters()).device)


@torch.no_grad()
def outputs(model: Any, batch: Any) -> Tensor:
    """What the model says to a batch, float64: (B, T, V) logits, (B, L) or (B, T, L) scores, (B, D) vectors of
    the first texts, (B,) rewards.
    """
    return run(model, micro_batch(model, batch)).double().cpu()


def run(model: Any, micro: TrainingBatch) -> Tensor:
    """One forward pass, every place through the head."""
    if isinstance(micro, RankingMicroBatch):
        if isinstance(model, RewardModel):
            return model(micro.whole_ids, attention_mask=micro.whole_mask)
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


def differ(one: Tensor, other: Tensor, model: torch.nn.Module) -> bool:
    """Whether outputs differ by more than rounding."""
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    return bool((one - other).abs().max() > (5e-2 if half else 1e-3) * (1e-6 + other.std()))


def other_ids(model: Any, token_ids: np.ndarray) -> np.ndarray:
    """Ids of the vocabulary, none of which is the given one."""
    return (token_ids + 1) % model.config.vocab_size
