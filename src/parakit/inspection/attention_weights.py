"""Attention weights, computed again from queries and keys: the fused kernels that a forward pass uses keep none.

The scores follow every kind of attention that compares queries with keys: grouped heads, windows, soft caps, biases of
distances, sinks, queries to a source. Linear attention has no such weights, low-rank attention has them over mixtures of
tokens, a recurrent layer has a matrix in their place: these are refused, with the reason.

Shapes: B rows, T queries, S keys (a trained prefix first), H heads, G key-value heads, D head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.model.layers.attention import Attention, SinkAttention
from parakit.model.layers.efficient_attention import LinearAttention, LocalAttention, LowRankAttention


@dataclass(frozen=True)
class AttentionCall:
    """What one attention module got in a forward pass."""

    query: Tensor  # (B, H, T, D), normed and rotated
    key: Tensor  # (B, G, S, D)
    value: Tensor  # (B, G, S, D)
    attention_mask: Tensor | None  # as `Attention.attend` gets it


def why_no_weights(attention: Any) -> str | None:
    """Why a module has no weight for each pair of tokens; None where it has."""
    if not isinstance(attention, Attention):
        return "it is recurrent: it reads from a matrix of constant size and compares no pairs of tokens"
    if isinstance(attention, LinearAttention):
        return (
            "its attention is linear: it sums keys and values before a query is seen, so no pair has a weight"
        )
    if isinstance(attention, LowRankAttention):
        return "its attention is low-rank: queries attend to fixed mixtures of all tokens, not to tokens"
    return None


def require_weights(name: str, attention: Any) -> None:
    """Raise `UserError` for a module without weights; `name` is the site's."""
    if reason := why_no_weights(attention):
        raise UserError(
            f"{name} has no attention map: {reason}",
            "activations and ablations work there; choose a layer of softmax attention for a map",
        )


def attention_weights(attention: Attention, call: AttentionCall) -> Tensor:
    """(B, H, T, S), at least float32. A row sums to one; with a sink, the sink has the rest. Raises `UserError` for
    attention without weights.
    """
    require_weights(f"layer {attention.layer}", attention)
    query, key = (x.float() if x.itemsize < 4 else x for x in (call.query, call.key))
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scale = query.shape[-1] ** -0.5 if attention.scale is None else attention.scale
    scores = (query * scale) @ key.mT
    if attention.soft_cap is not None:
        scores = attention.soft_cap * torch.tanh(scores / attention.soft_cap)
    mask = _mask_of_pairs(attention, call)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if not isinstance(attention, SinkAttention):
        return scores.softmax(-1)
    sink = attention.sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sink], -1).softmax(-1)[..., :-1]


def head_values(call: AttentionCall) -> Tensor:
    """The values (B, H, S, D) that each head averages: those of its group."""
    value = call.value.float() if call.value.itemsize < 4 else call.value
    return value.repeat_interleave(call.query.shape[1] // value.shape[1], 1)


def _mask_of_pairs(attention: Attention, call: AttentionCall) -> Tensor | None:
    """The mask (B or 1, 1 or H, T or 1, S), bool or a bias, with the causal order and the window that kernels imply."""
    n_queries, n_keys = call.query.shape[2], call.key.shape[2]
    given = call.attention_mask
    distance = torch.arange(n_queries, device=call.query.device)[:, None] + (n_keys - n_queries)
    distance = distance - torch.arange(n_keys, device=call.query.device)  # (T, S)
    of_keys = given is None or (given.dtype == torch.bool and given.shape[-2] == 1)
    if isinstance(attention, LocalAttention) and of_keys and n_queries == n_keys:
        near = (distance >= 0) & (distance < attention.window)
        if not attention.causal:
            near = distance.abs() <= attention.window // 2
        return near[None, None] if given is None else near & (given | (distance == 0))
    if given is None and attention.causal and n_queries > 1:
        return (distance >= 0)[None, None]
    return given
