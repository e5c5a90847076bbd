"""Prefill and decoding steps on a `KVCache` by the compiled kernels.

A contiguous cache (B, G, S, D) is a paged one whose row b has one page, b, of S slots. Prompts need no padding: the tokens
of all rows are one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.native_forward import MAX_TOKENS, NativeForward, PagedTensors, native_forward
from parakit.model.kernels import layout


class NativeStep:
    """`prefill` and `decode_step` of one model."""

    def __init__(self, forward: NativeForward) -> None:
        self.forward = forward
        self._pages: PagedTensors | None = None
        self._cache: layout.CacheLayout | None = None
        self._addresses: list[int] = []

    def __call__(self, cache: KVCache, token_ids: Tensor) -> Tensor:
        """Run one new token per row, (B,); logits float32 (B, V) of the token after it."""
        rows = range(cache.n_rows)
        logits = self.forward(
            token_ids.tolist(), cache.lengths, rows, self._describe(cache), rows, goes_on=True
        )
        cache.grow([1] * cache.n_rows)
        return logits

    def prefill(self, cache: KVCache, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Run each row's new tokens (at least one); logits float32 (B, V) after each row's last."""
        assert all(prompts), "an empty prompt has no last token"
        where = [(row, i) for row, prompt in enumerate(prompts) for i in range(len(prompt))]
        described, logits = self._describe(cache), []
        for start in range(0, len(where), MAX_TOKENS):
            chunk = where[start : start + MAX_TOKENS]
            logits.append(
                self.forward(
                    [prompts[row][i] for row, i in chunk],
                    [cache.lengths[row] + i for row, i in chunk],
                    [row for row, _ in chunk],
                    described,
                    [n for n, (row, i) in enumerate(chunk) if i == len(prompts[row]) - 1],
                )
            )
        cache.grow([len(prompt) for prompt in prompts])
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def run_row(self, cache: KVCache, token_ids: Sequence[int]) -> Tensor:
        """Run the new tokens of the only row; logits float32 (T, V) after each of them."""
        positions = range(cache.lengths[0], cache.lengths[0] + len(token_ids))
        rows, every = [0] * len(token_ids), range(len(token_ids))
        logits = self.forward(token_ids, positions, rows, self._describe(cache), every)
        cache.grow([len(token_ids)])
        return logits

    def _describe(self, cache: KVCache) -> layout.CacheLayout:
        addresses = [tensor.data_ptr() for tensor in cache.keys]
        addresses.append(cache.n_rows)
        if self._cache is None or addresses != self._addresses:
            table = torch.arange(cache.n_rows, dtype=torch.int32)[:, None].contiguous()
            self._pages = PagedTensors(cache.keys, cache.values, [table] * len(cache.keys))
            self._cache, self._addresses = self._pages.describe(), addresses
        return self._cache


def native_step(model: Any) -> NativeStep | None:
    """The native steps of this model; None where PyTorch must compute them."""
    forward = native_forward(model)
    return None if forward is None else NativeStep(forward)
