"""A decoder's forward pass in one call of the compiled kernels (`model/kernels`): on a CPU, without gradients.

`describe` writes down where a plain model's weights are and what its blocks do; the kernels read the weights there, so
that a training step between two calls is seen. What they do not compute (experts, relative positions, wrapped or
hooked modules, float64, ...) is left to PyTorch: `can_run_natively` says no. Vectors are float32 whatever the weights are.

Shapes: N new tokens, V vocabulary, P pages, G key-value heads, D head_dim.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parakit.inference.native_model import NotNative, describe
from parakit.model.heads import LanguageModel
from parakit.model.kernels import layout
from parakit.model.kernels.library import load_kernels
from parakit.model.quantized import weight_like

CACHE_KINDS = {
    torch.float32: layout.FP32,
    torch.bfloat16: layout.BF16,
    torch.float16: layout.FP16,
    torch.int8: layout.INT8,
}
FAULTS = {
    1: "a token id is outside the vocabulary",
    2: "a position is beyond the model or the cache",
    3: "a page is missing",
}
NO_MEMORY = 4
MAX_TOKENS = 512  # of one call; more need more memory, and are no faster

MIN_PRODUCTS_TO_SHARE = 500_000  # fewer take one thread less time than barriers between threads do


@dataclass
class PagedTensors:
    """Where keys and values are. Slot i of row r is slot i % page_size of page `page_tables[layer][r, i // page_size]`."""

    keys: Sequence[Tensor]
    """Per layer (P, G, page_size, D): float32, bfloat16, float16 or int8; contiguous."""
    values: Sequence[Tensor]
    page_tables: Sequence[Tensor]
    """Per layer int32 (rows, pages of a row), contiguous; layers may share one. Pages that no query sees may be -1."""
    key_scales: Sequence[Tensor] | None = None
    """int8: per layer float32 (P, G, page_size); a value is its integer times the scale, which is largest / 127."""
    value_scales: Sequence[Tensor] | None = None

    def describe(self) -> layout.CacheLayout:
        """Their addresses, for `NativeForward`; to be described again when one of them is replaced."""
        n_pages, page_size = (
            max(map(len, self.keys)),
            self.keys[0].shape[2],
        )  # local layers may have fewer pages
        layers = (layout.LayerCache * len(self.keys))()
        for i, layer in enumerate(layers):
            layer.keys, layer.values = self.keys[i].data_ptr(), self.values[i].data_ptr()
            if self.key_scales is not None and self.value_scales is not None:
                layer.key_scales, layer.value_scales = (
                    self.key_scales[i].data_ptr(),
                    self.value_scales[i].data_ptr(),
                )
            layer.page_table = self.page_tables[i].data_ptr()
        kind = CACHE_KINDS[self.keys[0].dtype]
        described = layout.CacheLayout(kind, page_size, self.page_tables[0].shape[1], n_pages, layers)
        described.tensors = self  # addresses do not keep them alive
        return described


class NativeForward:
    """The forward pass of one model. Raises `NotNative` for a model that the kernels do not compute."""

    def __init__(self, model: LanguageModel) -> None:
        library = load_kernels()
        if library is None:
            raise NotNative("there are no compiled kernels")
        self._library, self.model = library, model
        self._describe()
        self.vocab_size = model.config.vocab_size
        self._n_weights = sum(tensor.numel() for tensor in self._tensors)

    def _describe(self) -> None:
        self._description, self._tensors = describe(self.model)
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._storages = [tensor.untyped_storage() for tensor in self._tensors]  # addresses keep none alive

    def __call__(
        self,
        token_ids: Sequence[int],
        positions: Sequence[int],
        rows: Sequence[int],
        cache: layout.CacheLayout,
        logits_of: Sequence[int],
        goes_on: bool = False,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """Run N new tokens, any mix of rows, those of a row in order; logits float32 (len(logits_of), V) after those
        tokens. Their keys and values are written into the cache's pages before any of them attends. A row of the result
        does not depend on the other tokens of the call. Raises `ValueError` for ids and positions that do not exist.

        `goes_on`: all rows go on with a completion, by the memory with which it began. Else it is looked up whether a
        tensor has other memory now, which takes a tenth of a millisecond. `hidden`, float32 (len(logits_of), d_model),
        is filled with the vectors that `model.hidden` gives there.
        """
        if not goes_on and [tensor.data_ptr() for tensor in self._tensors] != self._addresses:
            self._describe()  # an optimizer or a load replaced a tensor's memory
        ids, wanted = array("q", token_ids), array("i", logits_of)
        where, which = array("i", positions), array("i", rows)
        assert len(ids) == len(where) == len(which)
        logits = torch.empty(len(wanted), self.vocab_size)
        batch = layout.BatchLayout(
            len(ids),
            len(wanted),
            *(numbers.buffer_info()[0] for numbers in (ids, where, which, wanted)),
            logits.data_ptr(),
            None if hidden is None else hidden.data_ptr(),
        )
        n_threads = torch.get_num_threads() if self._n_weights * len(ids) >= MIN_PRODUCTS_TO_SHARE else 1
        fault = self._library.parakit_forward(self._description, cache, batch, n_threads)
        if fault == NO_MEMORY:
            raise MemoryError(f"no memory for a pass of {len(ids)} tokens")
        if fault:
            raise ValueError(FAULTS[fault])
        return logits


def native_forward(model: Any) -> NativeForward | None:
    """The native forward pass of `model`; None where PyTorch must compute it."""
    if not isinstance(model, LanguageModel) or weight_like(model.lm_head).device.type != "cpu":
        return None
    try:
        return NativeForward(model)
    except NotNative:
        return None


def can_run_natively(model: Any) -> bool:
    """Whether `NativeForward` computes the same function as the model, on this machine."""
    return native_forward(model) is not None
