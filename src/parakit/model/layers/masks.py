"""Who may attend to whom: boolean masks, True = may attend.

A mask comes from outside as (B, S), the keys that are real, or as (B or 1, 1, T, S), pair by pair; None means
all keys, or for a decoder all keys up to the query. From it follow the masks of full and of local layers. Every
query may attend to itself, so that a padded row never softmaxes over nothing (0 / 0 would spread to real rows).

Shapes: B batch, T new tokens (queries), S attended tokens (keys).
"""

from __future__ import annotations

import torch
from torch import Tensor

from parakit.model.config import TransformerConfig


def document_mask(document_ids: Tensor, causal: bool = True) -> Tensor:
    """Who may attend in packed rows: document_ids (B, T) -> (B, 1, T, T) bool, within each document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return (torch.tril(same) if causal else same).unsqueeze(1)


def prefix_tree_mask(tree_ids: Tensor, branch_ids: Tensor) -> Tensor:
    """Who may attend in rows of trees, (B, T) each -> (B, 1, T, T) bool: a token sees what stands before it in its own
    branch and in what all branches of its tree share, branch 0.
    """
    same = tree_ids[:, :, None] == tree_ids[:, None, :]
    seen = (branch_ids[:, :, None] == branch_ids[:, None, :]) | (branch_ids[:, None, :] == 0)
    return torch.tril(same & seen).unsqueeze(1)


def supports_prefix_tree(config: TransformerConfig) -> bool:
    """Whether branches behind one beginning get the vectors of rows of their own: a decoder's, whose layers see
    distances through `position_ids` and the mask alone. Windows and relative positions count the places between.
    """
    return (
        config.family == "decoder"
        and config.attention == "softmax"
        and config.sliding_window is None
        and config.positions != "relative"
    )


def cross_document_mask(target_document_ids: Tensor, source_document_ids: Tensor) -> Tensor:
    """Packed rows of pairs: (B, T) and (B, S) -> (B, 1, T, S), each target sees its own source."""
    return (target_document_ids[:, :, None] == source_document_ids[:, None, :]).unsqueeze(1)


def expand_mask(
    attention_mask: Tensor | None, query_index: Tensor, n_keys: int, causal: bool
) -> Tensor | None:
    """The mask of full layers: (B or 1, 1, T, S), or None where plain attention is right.

    query_index (T,) or (B, T): the key slot of each query itself.
    """
    if attention_mask is None or attention_mask.ndim == 4:
        return attention_mask
    keys = torch.arange(n_keys, device=attention_mask.device)
    distance = _distance(query_index, keys)  # (B or 1, 1, T, S)
    seen = attention_mask[:, None, None, :] | (distance == 0)
    return seen & (distance >= 0) if causal else seen


def narrow_mask(
    attention_mask: Tensor | None, query_index: Tensor, n_keys: int, window: int, causal: bool
) -> Tensor | None:
    """The mask of local layers. Causal: the `window` newest tokens, the query included; else `window` // 2
    to each side (Mistral; ModernBERT).
    """
    if attention_mask is None and n_keys <= (window if causal else window // 2 + 1):
        return None
    distance = _distance(query_index, torch.arange(n_keys, device=query_index.device))
    near = (distance >= 0) & (distance < window) if causal else distance.abs() <= window // 2
    if attention_mask is None:
        return near
    if attention_mask.dtype == torch.bool:
        return (attention_mask & near) | (distance == 0)
    return attention_mask.masked_fill(~near, -torch.inf)


def causal_mask(query_index: Tensor, n_keys: int) -> Tensor:
    """(B or 1, 1, T, S): each query sees the slots up to its own."""
    return _distance(query_index, torch.arange(n_keys, device=query_index.device)) >= 0


def _distance(query_index: Tensor, keys: Tensor) -> Tensor:
    """How far each key lies behind each query: (B or 1, 1, T, S)."""
    distance = query_index[..., :, None] - keys
    return distance[:, None] if distance.ndim == 3 else distance[None, None]
