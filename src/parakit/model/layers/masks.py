"""Attention masks: boolean, True = may attend.

Callers pass a mask (B, S), the real keys, or (B or 1, 1, T, S), per pair; None means all keys, or for a decoder all keys
up to the query. The masks of full and of local layers are derived from it. Every query may attend to itself, so that no
softmax of a padded row is empty (0 / 0 would spread to real rows).

Shapes: B batch, T new tokens (queries), S attended tokens (keys).
"""

from __future__ import annotations

import torch
from torch import Tensor

from parakit.model.transformer_config import TransformerConfig


def document_mask(document_ids: Tensor, causal: bool = True) -> Tensor:
    """The mask of packed rows: document_ids (B, T) -> (B, 1, T, T) bool, within each document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return (torch.tril(same) if causal else same).unsqueeze(1)


def documents_of(attention_mask: Tensor) -> Tensor:
    """The inverse of `document_mask`, up to the numbers: (B, 1, T, T) -> (B, T) int64. A token that does not attend to the
    one before it begins a document.
    """
    begins = ~attention_mask[:, 0].diagonal(-1, 1, 2)  # (B, T - 1)
    return torch.nn.functional.pad(begins.long().cumsum(1), (1, 0))


def prefix_tree_mask(tree_ids: Tensor, branch_ids: Tensor) -> Tensor:
    """The mask of rows of prefix trees: (B, T) each -> (B, 1, T, T) bool. A token attends to the tokens before it in its
    own branch and in the shared prefix of its tree, branch 0.
    """
    same = tree_ids[:, :, None] == tree_ids[:, None, :]
    visible = (branch_ids[:, :, None] == branch_ids[:, None, :]) | (branch_ids[:, None, :] == 0)
    return torch.tril(same & visible).unsqueeze(1)


def supports_prefix_tree(config: TransformerConfig) -> bool:
    """Whether branches with a shared prefix get the same vectors as in separate rows. It holds for decoders whose layers
    depend on distances through `position_ids` and the mask only; windows and relative positions depend on the distance
    of slots, recurrent layers on the token before, and long rotary factors on the last position of a row.
    """
    return (
        config.family == "decoder"
        and config.attention == "softmax"
        and config.sliding_window is None
        and config.delta_rule is None
        and config.positions != "relative"
        and (config.rope_scaling is None or config.rope_scaling.kind != "longrope")
    )


def cross_document_mask(target_document_ids: Tensor, source_document_ids: Tensor) -> Tensor:
    """Packed rows of pairs: (B, T) and (B, S) -> (B, 1, T, S), each target attends to its own source."""
    return (target_document_ids[:, :, None] == source_document_ids[:, None, :]).unsqueeze(1)


def expand_mask(
    attention_mask: Tensor | None, query_index: Tensor, n_keys: int, causal: bool
) -> Tensor | None:
    """The mask of full layers: (B or 1, 1, T, S), or None where no mask is necessary.

    query_index (T,) or (B, T): the key slot of each query itself.
    """
    if attention_mask is None or attention_mask.ndim == 4:
        return attention_mask
    keys = torch.arange(n_keys, device=attention_mask.device)
    distance = _distance(query_index, keys)  # (B or 1, 1, T, S)
    visible = attention_mask[:, None, None, :] | (distance == 0)
    return visible & (distance >= 0) if causal else visible


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
    """(B or 1, 1, T, S): each query attends to the slots up to its own."""
    return _distance(query_index, torch.arange(n_keys, device=query_index.device)) >= 0


def _distance(query_index: Tensor, keys: Tensor) -> Tensor:
    """Query slot minus key slot: (B or 1, 1, T, S)."""
    distance = query_index[..., :, None] - keys
    return distance[:, None] if distance.ndim == 3 else distance[None, None]
