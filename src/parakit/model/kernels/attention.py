"""Attention of a training step by the compiled kernels: forward and backward without the scores of all pairs in memory.

PyTorch's own fused attention reaches a third of the processor's matrix-product rate for heads of 32 to 64 features and rows
of a few hundred tokens, of which it also computes the half that a causal mask hides. The kernel computes tiles of 48 queries
and 48 keys, leaves out those that a mask hides, and needs no copies of keys and values that several heads share. Dao et al.
2022, "FlashAttention".

Shapes: B batch, H heads, G key-value heads, T queries, S keys, D head_dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from parakit.model.kernels.training import call, has_dense_rows, in_layout_of, served

_AGAIN: ContextVar[bool] = ContextVar("attention_again", default=False)


@contextmanager
def computed_again() -> Iterator[None]:
    """For a pass without a gradient that a pass with one will repeat: attention is computed as it will be then."""
    token = _AGAIN.set(True)
    try:
        yield
    finally:
        _AGAIN.reset(token)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> Tensor | None:
    """Softmax attention with a gradient: query (B, H, T, D), keys and values (B, G, S, D) -> (B, H, T, D), tokens before heads
    in memory.

    The mask is boolean, (B or 1, 1, T or 1, S), True = may attend; a query that sees no key gets zeros. Returns None where
    PyTorch must compute it: without a gradient, too, but for `computed_again`, and for a mask by head or of scores.
    """
    inputs = (query, key, value)
    trains = torch.is_grad_enabled() and any(one.requires_grad for one in inputs)
    if not ((trains or _AGAIN.get()) and served(*inputs)):
        return None
    if any(one.ndim != 4 for one in inputs) or key.shape != value.shape or query.shape[1] % key.shape[1]:
        return None
    if (len(query), query.shape[3]) != (len(key), key.shape[3]) or (
        is_causal and query.shape[2] != key.shape[2]
    ):
        return None
    if attention_mask is not None:
        if (
            attention_mask.dtype != torch.bool
            or is_causal
            or attention_mask.ndim != 4
            or attention_mask.shape[1] != 1
        ):
            return None
        attention_mask = attention_mask.expand(len(query), 1, query.shape[2], key.shape[2])
        if attention_mask.stride(3) != 1:
            attention_mask = attention_mask.contiguous()
    query, key, value = (one if has_dense_rows(one) else one.contiguous() for one in inputs)
    scale = query.shape[3] ** -0.5 if scale is None else scale
    result: Tensor = _Attention.apply(query, key, value, attention_mask, is_causal, scale)
    return result


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        is_causal: bool,
        scale: float,
    ) -> Tensor:
        n_batch, n_heads, n_tokens, head_dim = query.shape
        output = query.new_empty(n_batch, n_tokens, n_heads, head_dim).transpose(1, 2)
        normalizer = query.new_empty(n_batch, n_heads, n_tokens)
        sizes = _sizes(query, key, value, output, attention_mask, is_causal)
        call("parakit_attention", sizes, scale, attention_mask, query, key, value, output, normalizer)
        ctx.save_for_backward(query, key, value, attention_mask, output, normalizer)
        ctx.is_causal, ctx.scale = is_causal, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attention_mask, output, normalizer = ctx.saved_tensors
        grad = in_layout_of(grad, output)
        grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        sizes = _sizes(query, key, value, output, attention_mask, ctx.is_causal)
        inputs = (attention_mask, query, key, value, output, normalizer, grad)
        call("parakit_attention_gradients", sizes, ctx.scale, *inputs, *grads)
        return *grads, None, None, None


def _sizes(
    query: Tensor, key: Tensor, value: Tensor, output: Tensor, attention_mask: Tensor | None, is_causal: bool
) -> Any:
    """`AttentionSizes` of `csrc/training_attention.h`."""
    n_batch, n_heads, n_queries, head_dim = query.shape
    of_mask = (0, 0) if attention_mask is None else (attention_mask.stride(0), attention_mask.stride(2))
    strides = (stride for one in (query, key, value, output) for stride in one.stride()[:3])
    sizes = (n_batch, n_heads, key.shape[1], n_queries, key.shape[2], head_dim)
    return (c_int64 * 21)(*sizes, int(is_causal), *of_mask, *strides)
