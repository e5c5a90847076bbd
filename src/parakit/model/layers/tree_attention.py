"""Attention in rows of prefix trees, segment by segment: a token of a branch attends to its branch and to the tree's shared
prefix, so the scores between branches, most of a long row's, are never computed.

A row is split at the ends of its branches; splitting costs nothing in the backward pass, which joins the parts' gradients.
On a CPU, where a fused kernel computes every score of a mask. `remember_segments` notes the segments of a mask once for all
layers; another mask, though it was made of that one, is computed as a whole.

Shapes: B rows, T tokens, H heads, D head_dim, P tokens of the prefix, Q of a segment.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from parakit.model.transformer_config import TransformerConfig

MIN_ROW = 192  # tokens: in shorter rows the calls cost more than they save
MIN_SEGMENT = 16  # tokens, on average


@dataclass(frozen=True)
class TreeSegments:
    """Of each row the lengths of its segments, and of each segment the index of the one with its shared prefix, or None."""

    lengths: list[list[int]]
    prefixes: list[list[int | None]]
    masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def mask(self, n_prefix: int, n_own: int) -> Tensor:
        """(Q, P + Q): all of the prefix, and of the segment what comes before."""
        if (n_prefix, n_own) not in self.masks:
            ones = torch.ones(n_own, n_prefix + n_own, dtype=torch.bool)
            self.masks[n_prefix, n_own] = ones.tril(n_prefix)
        return self.masks[n_prefix, n_own]


_SEGMENTS: MutableMapping[Tensor, TreeSegments] = WeakTensorKeyDictionary()


def attends_by_segment(config: TransformerConfig) -> bool:
    """Whether the layers of a model that supports prefix trees use `tree_attention` on a CPU, also in training."""
    dropout = config.dropout if config.attention_dropout is None else config.attention_dropout
    return config.attention_soft_cap is None and not config.attention_sinks and not dropout


def remember_segments(attention_mask: Tensor, tree_ids: np.ndarray, branch_ids: np.ndarray) -> None:
    """Note the segments of a mask (B, 1, T, T) that `prefix_tree_mask` made of these ids (B, T), where that is worth it."""
    if attention_mask.device.type != "cpu" or tree_ids.shape[1] < MIN_ROW:
        return
    lengths: list[list[int]] = []
    prefixes: list[list[int | None]] = []
    for trees, branches in zip(tree_ids, branch_ids, strict=True):
        starts = np.flatnonzero(np.diff(trees, prepend=-2) | np.diff(branches, prepend=-2))
        lengths.append(np.diff(starts, append=len(trees)).tolist())
        shared = {int(trees[at]): i for i, at in enumerate(starts) if branches[at] == 0}
        prefixes.append([shared.get(int(trees[at])) if branches[at] else None for at in starts])
    if tree_ids.size >= MIN_SEGMENT * sum(map(len, lengths)):
        _SEGMENTS[attention_mask] = TreeSegments(lengths, prefixes)


def tree_attention(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scale: float | None
) -> Tensor | None:
    """Attention of (B, H, T, D) each under a mask whose segments are known; None where they are not."""
    if attention_mask is None or torch.compiler.is_compiling():
        return None
    segments = _SEGMENTS.get(attention_mask)
    if segments is None or query.shape[2] != key.shape[2]:
        return None
    rows = zip(query.split(1), key.split(1), value.split(1), segments.lengths, segments.prefixes, strict=True)
    return torch.cat([_row(segments, *row, scale) for row in rows])


def _row(
    segments: TreeSegments,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    prefixes: list[int | None],
    scale: float | None,
) -> Tensor:
    keys, values = key.split(lengths, 2), value.split(lengths, 2)
    mixed: list[Tensor] = []
    for i, (own, prefix) in enumerate(zip(query.split(lengths, 2), prefixes, strict=True)):
        if prefix is None:
            attended = functional.scaled_dot_product_attention(
                own, keys[i], values[i], is_causal=own.shape[2] > 1, scale=scale
            )
        else:
            attended = functional.scaled_dot_product_attention(
                own,
                torch.cat([keys[prefix], keys[i]], 2),
                torch.cat([values[prefix], values[i]], 2),
                attn_mask=segments.mask(lengths[prefix], lengths[i]),
                scale=scale,
            )
        mixed.append(attended)
    return torch.cat(mixed, 2)
