"""Small batches of the run's own data for checks that run the model, and the restoring of everything that they change.

A fresh model's blocks begin as the identity: their output matrices are zero, so nothing behind them has a gradient and
no leak would show. During `probing`, matrices of zeros hold small random numbers; afterwards they are zero again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parakit.model.adapters.lora import LowRankWrapper
from parakit.tokens.batches.batch import AnyBatch, Batch, MaskedBatch, PairBatch, RankingBatch
from parakit.training.doctor.batch_views import arrays, completions, loss_positions, n_rows, real_positions
from parakit.training.doctor.turn_markers import boundaries

PROBE_ROWS, PROBE_COLUMNS = 3, 16
PROMPT_TOKENS, COMPLETION_TOKENS = (
    8,
    16,
)  # of a probed ranking: the end of its prompt, and where completions part


@contextlib.contextmanager
def probing(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, zero matrices filled, no gradients; afterwards weights, gradients, modes and random state are
    restored bit for bit.
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
    """Set every gradient to None."""
    for parameter in model.parameters():
        parameter.grad = None


@torch.no_grad()
def _fill_zeros(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    scales: dict[
        Tensor, float
    ] = {  # an update that outweighs its base makes attention one-hot, which hides leaks and directions
        parameter: module.scale
        for module in model.modules()
        if isinstance(module, LowRankWrapper)
        for parameter in (module.lora_a, module.lora_b)
    }
    saved: list[tuple[Tensor, Tensor]] = []
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            saved.append((parameter, parameter.clone()))
            std = parameter.shape[-1] ** -0.5 / scales.get(parameter, 1.0)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return saved


def small_batch(batch: AnyBatch, start_id: int | None) -> Any:
    """A small part of `batch`: the beginnings of some rows."""
    if isinstance(batch, Batch):
        return _crop(batch, start_id)
    if isinstance(batch, RankingBatch):
        return _crop_rankings(select_rows(batch, shortest_rankings(batch, PROBE_ROWS)))
    mask = loss_positions(batch)
    counts = np.ones(n_rows(batch), bool) if mask is None else mask.any(axis=1)
    rows = np.argsort(~counts, kind="stable")[:PROBE_ROWS]
    if isinstance(batch, PairBatch):
        return _beginnings(select_rows(batch, rows))
    return select_rows(batch, rows, slice(0, 2 * PROBE_COLUMNS))


def shortest_rankings(batch: RankingBatch, n: int) -> np.ndarray:
    """The indices of the `n` rankings with the fewest tokens, in their order."""
    return np.sort(np.argsort(batch.real_mask.sum((1, 2)), kind="stable")[:n])


def _crop_rankings(batch: RankingBatch) -> RankingBatch:
    """The end of each prompt, and the completions' tokens around the first in which the best and the worst differ."""
    rows: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {
        (row, place): (ids, counted) for row, place, ids, counted in completions(batch)
    }
    cut: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
    for (row, place), (ids, counted) in rows.items():
        if not counted.any():
            cut[row, place] = ids[:COMPLETION_TOKENS], counted[:COMPLETION_TOKENS]
            continue
        n_prompt = int(np.argmax(counted))
        best, worst = rows[row, 0][0], rows[row, max(k for r, k in rows if r == row)][0]
        n = min(len(best), len(worst))
        differ = np.flatnonzero(best[:n] != worst[:n])
        first = int(differ[0]) if len(differ) else n - 1
        start = min(max(n_prompt, first - COMPLETION_TOKENS // 2), max(n_prompt, len(ids) - 1))
        prompt = slice(max(0, n_prompt - PROMPT_TOKENS), n_prompt)
        kept = slice(start, start + COMPLETION_TOKENS)
        cut[row, place] = tuple(np.concatenate([one[prompt], one[kept]]) for one in (ids, counted))
    width = max(len(ids) for ids, _ in cut.values()) - 1
    shape = (*batch.real_mask.shape[:2], max(1, width))
    input_ids, target_ids = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    loss_mask, real_mask = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for entry, (ids, counted) in cut.items():
        n = len(ids) - 1
        input_ids[entry][:n], target_ids[entry][:n] = ids[:-1], ids[1:]
        loss_mask[entry][:n], real_mask[entry][:n] = counted[1:], True
    return dataclasses.replace(
        batch, input_ids=input_ids, target_ids=target_ids, loss_mask=loss_mask, real_mask=real_mask
    )


def _beginnings(batch: PairBatch) -> PairBatch:
    """The first tokens of the source and target of each row's first two pairs."""
    cut: dict[str, Any] = {}
    for name, value in arrays(batch).items():
        numbers = batch.source_document_ids if name.startswith("source") else batch.document_ids
        real = real_positions(batch, name)
        rows = [
            value[row][_first_columns(real[row], None if numbers is None else numbers[row])]
            for row in range(len(real))
        ]
        width, fill = max(1, *map(len, rows)), -1 if "document" in name else 0
        cut[name] = np.stack([np.pad(row, (0, width - len(row)), constant_values=fill) for row in rows])
    return with_loss_mask(dataclasses.replace(batch, **cut))


def _first_columns(real: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
    """Columns of the first tokens of the first two documents."""
    numbers = np.where(real, 0 if numbers is None else numbers, -1)
    columns = [np.flatnonzero(numbers == one)[:PROBE_COLUMNS] for one in np.unique(numbers[real])[:2]]
    return np.concatenate([np.zeros(0, np.int64), *columns])


def _crop(batch: Batch, start_id: int | None) -> Batch:
    """A few rows and columns of `batch`. The first row has a document boundary if any row has one, else a counted token."""
    starts = [
        (row, column)
        for row in range(len(batch.input_ids))
        for column in _document_starts(batch, row, start_id)[:1]
    ]
    counted = np.argwhere(batch.loss_mask)
    row, column = starts[0] if starts else counted[0] if len(counted) else (0, 0)
    rows = np.argsort(np.arange(len(batch.input_ids)) != row, kind="stable")[:PROBE_ROWS]
    seq_len = batch.input_ids.shape[1]
    left = min(max(int(column) - PROBE_COLUMNS // 2, 0), max(seq_len - PROBE_COLUMNS, 0))
    return select_rows(batch, rows, slice(left, left + PROBE_COLUMNS))


def _document_starts(batch: Batch, row: int, start_id: int | None) -> list[int]:
    """Columns at which another document begins, derived from the tokens, or where these are masked, from document ids."""
    if not isinstance(batch, MaskedBatch):
        return boundaries(batch, row, start_id)
    numbers = batch.document_ids[row]
    return (np.flatnonzero((numbers[1:] != numbers[:-1]) & (numbers[1:] >= 0)) + 1).tolist()


def row_slice(batch: AnyBatch, begin: int, end: int) -> Any:
    """Rows `begin` to `end - 1` of a batch of any type."""
    return select_rows(batch, np.arange(begin, end))


def select_rows(batch: AnyBatch, rows: np.ndarray, columns: slice | None = None) -> Any:
    """These rows and columns as a batch with its own count."""
    parts = {name: value[rows] for name, value in arrays(batch).items()}
    if columns is not None:
        parts = {name: value[:, columns] if value.ndim > 1 else value for name, value in parts.items()}
    return with_loss_mask(dataclasses.replace(batch, **parts))


def with_loss_mask(batch: Any, loss_mask: np.ndarray | None = None) -> Any:
    """`batch` with another loss mask (None: its own), and the count of that mask."""
    mask = getattr(batch, "loss_mask", None) if loss_mask is None else loss_mask
    if mask is None or loss_positions(batch) is None:
        return dataclasses.replace(batch, n_counted=n_rows(batch))
    return dataclasses.replace(batch, loss_mask=mask, n_counted=int(mask.sum()))


def uneven_mask(batch: AnyBatch, *, empty_row: bool = False) -> Any:
    """Row 0 counts every position that may count, row 1 every second, and so on, so that rows differ in weight; with
    `empty_row` row 1 counts nothing. Where whole rows count, each counts once.
    """
    real = loss_positions(batch)
    if real is None:
        return with_loss_mask(batch)
    mask = np.zeros_like(real)
    for row in range(len(real)):
        mask[row, np.flatnonzero(real[row])[:: row + 1]] = True
    if empty_row and len(mask) > 1:
        mask[1] = False
    return with_loss_mask(batch, mask)
