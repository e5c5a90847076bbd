"""Objectives: what a stage brings to the one training loop.

An objective takes the model and one micro-batch and returns the *sum* of the losses over counted tokens, in
float32. The loop divides by the number of counted tokens in the whole optimizer batch, so that gradients do
not depend on how the batch was cut.

Shapes: B rows, T tokens, V vocabulary, N counted tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from parakit.model.attention import document_mask
from parakit.model.heads import LanguageModel
from parakit.tokens.batches import Batch


@dataclass(frozen=True)
class MicroBatch:
    """A batch as tensors on the device. `attention_mask` is None where every row is one document under
    plain causal attention.
    """

    input_ids: Tensor  # (B, T) int64
    target_ids: Tensor  # (B, T) int64
    loss_mask: Tensor | None  # (B, T) bool, True = counts; None: all count
    position_ids: Tensor | None  # (B, T) int64
    attention_mask: Tensor | None  # (B, 1, T, T) bool, True = may attend
    n_counted: int


Objective = Callable[[LanguageModel, MicroBatch], Tensor]


def to_micro_batch(batch: Batch, device: torch.device, always_masked: bool = False) -> MicroBatch:
    """Move a batch of numpy arrays to `device`; packed documents get a block-diagonal causal mask.

    `always_masked` gives one to rows of single documents, too: compiled code then meets one kind of batch.
    """
    attention_mask = position_ids = None
    if always_masked or not batch.single_document:
        attention_mask = document_mask(torch.from_numpy(batch.document_ids).to(device))
        position_ids = torch.from_numpy(batch.position_ids).to(device)
    all_count = batch.n_counted == batch.loss_mask.size
    return MicroBatch(
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        target_ids=torch.from_numpy(batch.target_ids).to(device),
        loss_mask=None if all_count else torch.from_numpy(batch.loss_mask).to(device),
        position_ids=position_ids,
        attention_mask=attention_mask,
        n_counted=batch.n_counted,
    )


def next_token(model: LanguageModel, batch: MicroBatch) -> Tensor:
    """Cross-entropy of the next token, summed over counted tokens (nats). Only counted positions pass
    through the output head.
    """
    hidden = model.hidden(
        batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
    )  # (B, T, D)
    if batch.loss_mask is None:
        hidden, targets = hidden.flatten(0, 1), batch.target_ids.flatten()
    else:
        hidden, targets = hidden[batch.loss_mask], batch.target_ids[batch.loss_mask]  # (N, D), (N,)
    return functional.cross_entropy(model.lm_head(hidden).float(), targets, reduction="sum")
