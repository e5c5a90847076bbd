"""The type of cached keys and values: what the weights suggest, or what the settings choose.

A decoding step reads the cache and the weights once. Where the weights have 8 or 4 bits a cache in float32 is a large part of
that, so it is float16 there: 11 bits of each number, more than the weights keep. Numbers beyond float16's range are cut to it.
"""

from __future__ import annotations

from typing import Any

import torch

from parakit.common.errors import UserError
from parakit.inference.config import CacheDtype
from parakit.model.heads import LanguageModel
from parakit.model.quantized import is_quantized, weight_like

DTYPES: dict[CacheDtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
FLOAT16_MAX = torch.finfo(torch.float16).max


def resolve_cache_dtype(model: Any, choice: CacheDtype) -> torch.dtype:
    """The dtype that `choice` means for this model. auto: float16 where a CPU computes a decoder with quantized weights in
    float32, else the dtype in which the model computes.
    """
    like = weight_like(model.lm_head)
    if choice != "auto":
        return DTYPES.get(choice, like.dtype)
    is_small = like.device.type == "cpu" and like.dtype == torch.float32
    if is_small and isinstance(model, LanguageModel) and is_quantized(model):
        return torch.float16
    computed: torch.dtype = like.dtype
    return computed


def contiguous_cache_dtype(model: Any, choice: CacheDtype) -> torch.dtype:
    """The same for a cache without pages, which has no scales. Raises `UserError` for int8."""
    if choice == "int8":
        raise UserError(
            "cache_dtype int8 needs a paged cache, and this way of decoding has none", "set it to float16"
        )
    return resolve_cache_dtype(model, choice)


def to_cache(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Keys or values as a cache of this floating-point dtype holds them."""
    if dtype == torch.float16 and x.dtype != dtype:
        x = x.clamp(-FLOAT16_MAX, FLOAT16_MAX)
    return x.to(dtype)
