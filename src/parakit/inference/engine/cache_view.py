"""Rows of a paged cache as the `Cache` of one forward pass, for every decoder and in plain PyTorch.

New keys and values are written to their pages, and all slots of the rows are gathered into one tensor. A token's slot is its
position, as in `KVCache`: one rule serves prompts, chunks and steps. What a pass pads on the right is never written.

Shapes: B rows, T new tokens of the longest row, G key-value heads, S slots, D head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parakit.inference.engine.paged_cache import CacheRow, PagedCache


class PagedView:
    """`n_new[b]` more tokens of row b, for which pages are reserved. Nothing is committed: see `PagedCache.commit`."""

    def __init__(self, cache: PagedCache, rows: Sequence[CacheRow], n_new: Sequence[int]) -> None:
        self.cache, self.rows, self.n_new = cache, rows, list(n_new)
        self.before = [row.length for row in rows]
        self.n_tokens = max(n_new)
        ends = [before + new for before, new in zip(self.before, self.n_new, strict=True)]
        self.seq_len = max(ends) - self.n_tokens
        """Slots before the new tokens of the longest row."""
        self.is_even = len(set(self.before)) == 1
        self.is_padded = min(self.n_new) < self.n_tokens
        device = cache.device
        self._before = torch.tensor(self.before, device=device)
        self._real: Tensor | None = None  # (B, T)
        if self.is_padded:
            counts = torch.tensor(self.n_new, device=device)
            self._real = torch.arange(self.n_tokens, device=device) < counts[:, None]
        self._tables = [cache.page_table(rows, group, max(ends)) for group in range(len(cache.groups))]
        self._targets = [self._target_slots(table) for table in self._tables]
        self._slots = torch.tensor([row.slot for row in rows], device=device)

    def position_ids(self, n_new: int) -> Tensor:
        """Positions of the new tokens: (T,) when all rows agree, else (B, T); those of padding repeat a row's last."""
        steps = torch.arange(n_new, device=self.cache.device)
        if self.is_even and not (self.is_padded and self.cache.switch_len is not None):
            return steps + self.before[0]
        last = [before + new - 1 for before, new in zip(self.before, self.n_new, strict=True)]
        return (self._before[:, None] + steps).minimum(torch.tensor(last, device=steps.device)[:, None])

    def attention_mask(self, n_new: int) -> Tensor | None:
        """As `KVCache.attention_mask`."""
        if self.is_even and (n_new == 1 or self.before[0] == 0):
            return None
        slots = torch.arange(self.seq_len + n_new, device=self.cache.device)
        mask = slots <= self.position_ids(n_new)[..., None]
        return mask[:, None] if mask.ndim == 3 else mask[None, None]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store key and value (B, G, T, D); return those of all slots (B, G, S, D)."""
        store, group = self.cache.stores[layer], self.cache.group_of[layer]
        store.write(self._targets[group], self._real_tokens(key), self._real_tokens(value))
        is_first = not any(self.before) and store.dtype == key.dtype
        if is_first:
            return key, value
        return store.read(self._tables[group], self.seq_len + self.n_tokens)

    def _real_tokens(self, x: Tensor) -> Tensor:
        """(B, G, T, D) -> (N, G, D)."""
        x = x.transpose(1, 2)
        return x.flatten(0, 1) if self._real is None else x[self._real]

    def _target_slots(self, table: Tensor) -> Tensor:
        """(N * G,) indices of the new tokens' vectors in flattened pages (pages, G, page_size, D)."""
        size, n_heads = self.cache.page_size, self.cache.config.n_kv_heads
        positions = self._before[:, None] + torch.arange(self.n_tokens, device=table.device)  # (B, T)
        pages = table.gather(1, (positions // size).clamp(max=table.shape[1] - 1))
        heads = torch.arange(n_heads, device=table.device)
        targets = (pages[..., None] * n_heads + heads) * size + (positions % size)[..., None]  # (B, T, G)
        return (targets if self._real is None else targets[self._real]).flatten()

    def new_tokens(self, n_new: int) -> Tensor | None:
        """Which new tokens are real, (B, T) bool; None: all."""
        return self._real

    def state(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """What a recurrent layer keeps of each row; zeros before a row's first token."""
        pools = self.cache.states.get(layer)
        if pools is None:
            return None
        tail, matrix = (pool.index_select(0, self._slots) for pool in pools)
        return tail, matrix

    def set_state(self, layer: int, tail: Tensor, matrix: Tensor, n_new: int) -> None:
        """Store it, in the slots of the rows."""
        if layer not in self.cache.states:
            n_slots = self.cache.max_rows
            pools = tuple(one.new_zeros(n_slots, *one.shape[1:]) for one in (tail, matrix))
            self.cache.states[layer] = (pools[0], pools[1])
        for pool, new in zip(self.cache.states[layer], (tail, matrix), strict=True):
            pool.index_copy_(0, self._slots, new.to(pool.dtype))

    def source(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """None: rows of the engine have no source."""
        return None

    def set_source(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Rows of the engine have no source."""
        raise AssertionError("encoder-decoders decode with a `KVCache`")
