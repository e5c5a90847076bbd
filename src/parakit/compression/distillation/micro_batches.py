"""Batches with the teacher's cached probabilities, or with positions without a label.

Shapes: B rows, T tokens, K cached ids.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.tokens.batches.batch import Batch, MaskedBatch
from parakit.training.micro_batches import MicroBatch, to_micro_batch


@dataclass(frozen=True, kw_only=True)
class CachedBatch(Batch):
    """At each counted position the teacher's K most likely ids, and the log-probabilities of these and of all others
    together; undefined elsewhere.
    """

    top_ids: np.ndarray  # (B, T, K) int64
    top_logs: np.ndarray  # (B, T, K + 1) float32; (B, T, K) if K is the whole vocabulary
    hides_tokens: bool = False  # rows of an encoder, with bidirectional attention


@dataclass(frozen=True, kw_only=True)
class UnlabelledBatch(Batch):
    """Rows in which some counted positions have no label, because the student generated the token."""

    unlabelled: np.ndarray  # (B, T) bool


@dataclass(frozen=True, kw_only=True)
class CachedMicroBatch(MicroBatch):
    """A `CachedBatch` as tensors."""

    top_ids: Tensor  # (B, T, K) int64
    top_logs: Tensor  # (B, T, K or K + 1) float32


@dataclass(frozen=True, kw_only=True)
class UnlabelledMicroBatch(MicroBatch):
    """An `UnlabelledBatch` as tensors."""

    unlabelled: Tensor  # (B, T) bool


@to_micro_batch.register
def _cached(batch: CachedBatch, device: torch.device, always_masked: bool = False) -> CachedMicroBatch:
    kind = MaskedBatch if batch.hides_tokens else Batch
    top_ids, top_logs = (torch.from_numpy(value).to(device) for value in (batch.top_ids, batch.top_logs))
    return CachedMicroBatch(
        **_base_fields(batch, kind, device, always_masked), top_ids=top_ids, top_logs=top_logs
    )


@to_micro_batch.register
def _without_labels(
    batch: UnlabelledBatch, device: torch.device, always_masked: bool = False
) -> UnlabelledMicroBatch:
    unlabelled = torch.from_numpy(batch.unlabelled).to(device)
    return UnlabelledMicroBatch(**_base_fields(batch, Batch, device, always_masked), unlabelled=unlabelled)


def fields_of(batch: Batch) -> dict[str, Any]:
    """The fields of a plain `Batch`."""
    return {field.name: getattr(batch, field.name) for field in fields(Batch)}


def _base_fields(
    batch: Batch, kind: type[Batch], device: torch.device, always_masked: bool
) -> dict[str, Any]:
    """The fields of the plain micro-batch."""
    return vars(to_micro_batch(kind(**fields_of(batch)), device, always_masked))
