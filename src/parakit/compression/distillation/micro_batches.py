"""Batches of tokens that bring more than labels: the teacher's cached probabilities, or places without a label.

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
    """At each counted place the ids that the teacher finds likeliest, and the log-probabilities of these and of the
    rest together; anything at the other places.
    """

    top_ids: np.ndarray  # (B, T, K) int64
    top_logs: np.ndarray  # (B, T, K + 1) float32, or (B, T, K) where K is the whole vocabulary
    hides_tokens: bool = False  # an encoder's rows: attention goes both ways


@dataclass(frozen=True, kw_only=True)
class UnlabelledBatch(Batch):
    """Rows in which some places that count have no label: the student wrote the token itself."""

    unlabelled: np.ndarray  # (B, T) bool, True: only the teacher tells what belongs here


@dataclass(frozen=True, kw_only=True)
class CachedMicroBatch(MicroBatch):
    """As `CachedBatch`."""

    top_ids: Tensor  # (B, T, K) int64
    top_logs: Tensor  # (B, T, K or K + 1) float32


@dataclass(frozen=True, kw_only=True)
class UnlabelledMicroBatch(MicroBatch):
    """As `UnlabelledBatch`."""

    unlabelled: Tensor  # (B, T) bool


@to_micro_batch.register
def _cached(batch: CachedBatch, device: torch.device, always_masked: bool = False) -> CachedMicroBatch:
    kind = MaskedBatch if batch.hides_tokens else Batch
    top_ids, top_logs = (torch.from_numpy(value).to(device) for value in (batch.top_ids, batch.top_logs))
    return CachedMicroBatch(**_plain(batch, kind, device, always_masked), top_ids=top_ids, top_logs=top_logs)


@to_micro_batch.register
def _without_labels(
    batch: UnlabelledBatch, device: torch.device, always_masked: bool = False
) -> UnlabelledMicroBatch:
    unlabelled = torch.from_numpy(batch.unlabelled).to(device)
    return UnlabelledMicroBatch(**_plain(batch, Batch, device, always_masked), unlabelled=unlabelled)


def fields_of(batch: Batch) -> dict[str, Any]:
    """What every batch of tokens has."""
    return {field.name: getattr(batch, field.name) for field in fields(Batch)}


def _plain(batch: Batch, kind: type[Batch], device: torch.device, always_masked: bool) -> dict[str, Any]:
    """The micro-batch's fields that do not depend on what is learned."""
    return vars(to_micro_batch(kind(**fields_of(batch)), device, always_masked))
