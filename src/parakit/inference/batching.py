"""Rows of unequal length in one forward pass: sorted by length, padded on the right, masked; dropout off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from parakit.common.errors import UserError

MICRO_BATCH_SIZE = 64


class HasTrainingMode(Protocol):
    """What `evaluation_mode` needs of a model; every `torch.nn.Module` has it."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Switch dropout on or off."""
        ...


def not_finite(what: str) -> UserError:
    """The error for a model's outputs that hold NaN or infinity."""
    return UserError(
        f"the model's {what} are not finite numbers (NaN or infinity)",
        "its weights are corrupt, its training diverged, or float16 is too narrow for it; parakit import names the "
        "tensors that hold such values",
    )


def require_finite(outputs: torch.Tensor, what: str) -> torch.Tensor:
    """`outputs` (..., N) of a model, after checking that the greatest of each row is a finite number; NaN is the greatest.

    Raises `UserError`: a choice among such numbers would be arbitrary.
    """
    if not outputs.amax(-1).isfinite().all():
        raise not_finite(what)
    return outputs


@contextlib.contextmanager
def evaluation_mode(model: HasTrainingMode) -> Iterator[None]:
    """Dropout off inside the block; the previous mode is restored behind it."""
    was_training = model.training
    if was_training:
        model.train(False)
    try:
        yield
    finally:
        if was_training:
            model.train()


def rows_by_length(rows: Sequence[Sequence[object]], micro_batch_size: int) -> Iterator[list[int]]:
    """Row indices in groups of `micro_batch_size`, shortest rows first, which needs little padding."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(order), micro_batch_size):
        yield order[start : start + micro_batch_size]


def pad_rows(
    rows: Sequence[Sequence[int]], device: torch.device | str = "cpu", fill: int = 0
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Rows as one tensor (B, T) int64, and their attention mask (B, T) bool; None where nothing is padded."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    ids = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], device=device)
    if min(lengths) == longest:
        return ids, None
    positions = torch.arange(longest, device=device)
    return ids, positions < torch.tensor(lengths, device=device)[:, None]
