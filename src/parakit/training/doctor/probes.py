"""Small pieces of the run's own data on which a model is tried out, and the care that nothing of the trial
remains.

A fresh model's blocks begin as the identity: their output matrices are zero, so nothing behind them has a
gradient and no leak would show. While a model is tried out, matrices of zeros hold small random numbers;
afterwards they are zero again, to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from parakit.tokens.batches import Batch
from parakit.training.doctor.turns import breaks

PROBE_ROWS, PROBE_COLUMNS = 4, 32


@contextlib.contextmanager
def tried_out(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, zeros filled, no gradients; afterwards weights, gradients, modes and random state are
    what they were, to the bit.
    """
    device = next(model.parameters()).device
    gradients = [parameter.grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        zeros = _fill_zeros(model)
        model.eval()
        drop_gradients(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, saved in zeros:
                    parameter.copy_(saved)
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient
            for module, mode in zip(model.modules(), modes, strict=True):
                module.training = mode


def drop_gradients(model: nn.Module) -> None:
    """Forget all gradients."""
    for parameter in model.parameters():
        parameter.grad = None


@torch.no_grad()
def _fill_zeros(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    saved: list[tuple[Tensor, Tensor]] = []
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            saved.append((parameter, parameter.clone()))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5)
    return saved


def cropped(batch: Batch, bos_id: int | None) -> Batch:
    """A few rows and columns of `batch`; documents meet in the first row if they do anywhere, else a token of
    it counts.
    """
    met = [(row, column) for row in range(len(batch.input_ids)) for column in breaks(batch, row, bos_id)[:1]]
    counted = np.argwhere(batch.loss_mask)
    row, column = met[0] if met else counted[0] if len(counted) else (0, 0)
    rows = np.argsort(np.arange(len(batch.input_ids)) != row, kind="stable")[:PROBE_ROWS]
    seq_len = batch.input_ids.shape[1]
    left = min(max(int(column) - PROBE_COLUMNS // 2, 0), max(seq_len - PROBE_COLUMNS, 0))
    return _taken(batch, rows, slice(left, left + PROBE_COLUMNS))


def row_slice(batch: Batch, begin: int, end: int) -> Batch:
    """Rows `begin` to `end - 1`."""
    return _taken(batch, np.arange(begin, end), slice(None))


def _taken(batch: Batch, rows: np.ndarray, columns: slice) -> Batch:
    names = ("input_ids", "target_ids", "loss_mask", "document_ids", "position_ids")
    return counted_as(
        dataclasses.replace(batch, **{name: getattr(batch, name)[rows][:, columns] for name in names})
    )


def counted_as(batch: Batch, loss_mask: np.ndarray | None = None) -> Batch:
    """`batch` with another loss mask (None: its own), and the count that belongs to it."""
    mask = batch.loss_mask if loss_mask is None else loss_mask
    return dataclasses.replace(batch, loss_mask=mask, n_counted=int(mask.sum()))


def unevenly_counted(batch: Batch, *, empty_row: bool = False) -> Batch:
    """Row 0 counts every real token, row 1 every second, and so on, so that rows differ in weight; with
    `empty_row` row 1 counts nothing.
    """
    real = batch.document_ids >= 0
    mask = np.zeros_like(real)
    for row in range(len(real)):
        mask[row, np.flatnonzero(real[row])[:: row + 1]] = True
    if empty_row and len(mask) > 1:
        mask[1] = False
    return counted_as(batch, mask)
