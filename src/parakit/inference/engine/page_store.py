"""The tensors behind the pages: keys and values of each layer, (pages, G, page_size, D), in the cache's dtype.

In int8 each token's vector of a head has one float32 scale, its largest magnitude / 127 (symmetric, as in Xiao et al. 2023,
"SmoothQuant"), so that a token's cached vector depends on nothing but itself. On a CPU the memory is reserved at once and
taken by the system when a page is first written.

Shapes: N tokens, B rows, P pages of a row, G key-value heads, S slots, D head_dim.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from parakit.inference.cache_dtype import to_cache
from parakit.model.config import DecoderConfig

_NUMPY = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}


def page_bytes(config: DecoderConfig, n_layers: int, page_size: int, dtype: torch.dtype) -> int:
    """Bytes of one page in so many layers, keys and values."""
    scale = 4 if dtype == torch.int8 else 0
    per_token = config.n_kv_heads * (config.head_dim * dtype.itemsize + scale)
    return 2 * n_layers * page_size * per_token


class PageStore:
    """Keys and values of one layer; `scales` are None but in int8. Page 0 stays zero."""

    def __init__(
        self,
        config: DecoderConfig,
        n_pages: int,
        page_size: int,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (n_pages + 1, config.n_kv_heads, page_size, config.head_dim)
        self.page_size, self.dtype, self.compute_dtype = page_size, dtype, compute_dtype
        self.keys, self.values = (_zeros(shape, dtype, device) for _ in range(2))
        self.key_scales: Tensor | None = None
        self.value_scales: Tensor | None = None
        if dtype == torch.int8:
            self.key_scales, self.value_scales = (_zeros(shape[:3], torch.float32, device) for _ in range(2))

    def tensors(self) -> list[Tensor]:
        """All of them, pages first."""
        found = (self.keys, self.values, self.key_scales, self.value_scales)
        return [tensor for tensor in found if tensor is not None]

    def write(self, targets: Tensor, key: Tensor, value: Tensor) -> None:
        """Store key and value (N, G, D) at `targets` (N * G,): indices of vectors in the flattened pages."""
        pairs = ((self.keys, self.key_scales, key), (self.values, self.value_scales, value))
        for pages, scales, new in pairs:
            flat = new.reshape(-1, new.shape[-1])
            if scales is not None:
                flat, scale = quantize_vectors(flat)
                scales.view(-1).index_copy_(0, targets, scale)
            pages.view(-1, flat.shape[-1]).index_copy_(0, targets, to_cache(flat, pages.dtype))

    def read(self, table: Tensor, n_slots: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, G, S, D) of the first `n_slots` slots of rows with these pages (B, P)."""
        return (
            self._gather(self.keys, self.key_scales, table, n_slots),
            self._gather(self.values, self.value_scales, table, n_slots),
        )

    def _gather(self, pages: Tensor, scales: Tensor | None, table: Tensor, n_slots: int) -> Tensor:
        found = _rows(pages, table, n_slots)
        if scales is not None:
            found = found.to(self.compute_dtype) * _rows(scales[..., None], table, n_slots).to(
                self.compute_dtype
            )
        return found.to(self.compute_dtype)

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        """Give one page the contents of another."""
        for tensor in self.tensors():
            tensor[target] = tensor[source]

    @torch.inference_mode()
    def clear(self, pages: list[int]) -> None:
        """Set pages to zero."""
        for tensor in self.tensors():
            tensor[pages] = 0


def _rows(pages: Tensor, table: Tensor, n_slots: int) -> Tensor:
    """(pages, G, page_size, D) and (B, P) -> (B, G, S, D)."""
    n_rows, n_pages = table.shape
    found = pages.index_select(0, table.flatten())  # (B P, G, page_size, D)
    if n_pages == 1:
        return found[:, :, :n_slots]
    found = found.unflatten(0, (n_rows, n_pages)).transpose(1, 2).flatten(2, 3)
    return found[:, :, :n_slots]


def quantize_vectors(x: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (N, D) as int8, and the scale (N,) float32 of each."""
    x = x.float()
    scale = x.abs().amax(-1) / 127
    return (x / scale.clamp(min=1e-30)[:, None]).round_().clamp_(-127, 127).to(torch.int8), scale


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; of a CPU in memory that the system takes when it is written."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(shape, _NUMPY[dtype.itemsize])).view(dtype)
