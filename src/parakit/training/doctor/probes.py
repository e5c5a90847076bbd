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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parakit.tokens.batches.batch import Batch, MaskedBatch, PairBatch
from parakit.training.doctor.turns import breaks
from parakit.training.doctor.views import arrays, countable, n_rows, real_places

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


def probe_of(batch: Any, bos_id: int | None) -> Any:
    """A small part of `batch`: some rows, and of these the beginnings."""
    if isinstance(batch, Batch):
        return cropped(batch, bos_id)
    mask = countable(batch)
    counts = np.ones(n_rows(batch), bool) if mask is None else mask.any(axis=1)
    rows = np.argsort(~counts, kind="stable")[:PROBE_ROWS]
    if isinstance(batch, PairBatch):
        return _beginnings(taken(batch, rows))
    return taken(batch, rows, slice(0, 2 * PROBE_COLUMNS))


def _beginnings(batch: PairBatch) -> PairBatch:
    """The first two pairs of each row, and of each source and target the first tokens."""
    cut: dict[str, Any] = {}
    for name, value in arrays(batch).items():
        numbers = batch.source_document_ids if name.startswith("source") else batch.document_ids
        real = real_places(batch, name)
        rows = [
            value[row][_kept(real[row], None if numbers is None else numbers[row])]
            for row in range(len(real))
        ]
        width, fill = max(1, *map(len, rows)), -1 if "document" in name else 0
        cut[name] = np.stack([np.pad(row, (0, width - len(row)), constant_values=fill) for row in rows])
    return counted_as(dataclasses.replace(batch, **cut))


def _kept(real: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
    """Columns of the first places of the first two documents."""
    numbers = np.where(real, 0 if numbers is None else numbers, -1)
    kept = [np.flatnonzero(numbers == one)[:PROBE_COLUMNS] for one in np.unique(numbers[real])[:2]]
    return np.concatenate([np.zeros(0, np.int64), *kept])


def cropped(batch: Batch, bos_id: int | None) -> Any:
    """A few rows and columns of `batch`; documents meet in the first row if they do anywhere, else a token of
    it counts.
    """
    met = [
        (row, column) for row in range(len(batch.input_ids)) for column in _meeting(batch, row, bos_id)[:1]
    ]
    counted = np.argwhere(batch.loss_mask)
    row, column = met[0] if met else counted[0] if len(counted) else (0, 0)
    rows = np.argsort(np.arange(len(batch.input_ids)) != row, kind="stable")[:PROBE_ROWS]
    seq_len = batch.input_ids.shape[1]
    left = min(max(int(column) - PROBE_COLUMNS // 2, 0), max(seq_len - PROBE_COLUMNS, 0))
    return taken(batch, rows, slice(left, left + PROBE_COLUMNS))


def _meeting(batch: Batch, row: int, bos_id: int | None) -> list[int]:
    """Where documents meet: seen from the tokens, or where these are hidden, from the document ids."""
    if not isinstance(batch, MaskedBatch):
        return breaks(batch, row, bos_id)
    numbers = batch.document_ids[row]
    return (np.flatnonzero((numbers[1:] != numbers[:-1]) & (numbers[1:] >= 0)) + 1).tolist()


def row_slice(batch: Any, begin: int, end: int) -> Any:
    """Rows `begin` to `end - 1` of a batch of any kind."""
    return taken(batch, np.arange(begin, end))


def taken(batch: Any, rows: np.ndarray, columns: slice | None = None) -> Any:
    """These rows, and of each array these columns, as a batch with its own count."""
    parts = {name: value[rows] for name, value in arrays(batch).items()}
    if columns is not None:
        parts = {name: value[:, columns] if value.ndim > 1 else value for name, value in parts.items()}
    return counted_as(dataclasses.replace(batch, **parts))


def counted_as(batch: Any, loss_mask: np.ndarray | None = None) -> Any:
    """`batch` with another loss mask (None: its own), and the count that belongs to it."""
    mask = getattr(batch, "loss_mask", None) if loss_mask is None else loss_mask
    if mask is None or countable(batch) is None:
        return dataclasses.replace(batch, n_counted=n_rows(batch))
    return dataclasses.replace(batch, loss_mask=mask, n_counted=int(mask.sum()))


def unevenly_counted(batch: Any, *, empty_row: bool = False) -> Any:
    """Row 0 counts every place that may count, row 1 every second, and so on, so that rows differ in weight; with
    `empty_row` row 1 counts nothing. Where whole rows count, each counts once.
    """
    real = countable(batch)
    if real is None:
        return counted_as(batch)
    mask = np.zeros_like(real)
    for row in range(len(real)):
        mask[row, np.flatnonzero(real[row])[:: row + 1]] = True
    if empty_row and len(mask) > 1:
        mask[1] = False
    return counted_as(batch, mask)
