"""Rows of unlike length in one batch: neighbours in length together, padded on the right, masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch


def rows_by_length(rows: Sequence[Sequence[Any]], micro_batch_size: int) -> Iterator[list[int]]:
    """The numbers of the rows in groups of `micro_batch_size`, the shortest rows first: little padding."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(order), micro_batch_size):
        yield order[start : start + micro_batch_size]


def padded(
    rows: Sequence[Sequence[int]], device: torch.device | str = "cpu", fill: int = 0
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Rows as one tensor (B, T) int64, and which of it are real tokens, (B, T) bool; None where all are."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    ids = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], device=device)
    if min(lengths) == longest:
        return ids, None
    places = torch.arange(longest, device=device)
    return ids, places < torch.tensor(lengths, device=device)[:, None]
