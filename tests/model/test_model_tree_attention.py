"""Attention segment by segment gives what the mask of prefix trees gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from parakit.model.layers import tree_attention as module
from parakit.model.layers.masks import prefix_tree_mask
from parakit.model.layers.tree_attention import remember_segments, tree_attention
from parakit.tokens.batches.prefix_trees import pack_prefix_trees


def trees() -> tuple[np.ndarray, np.ndarray]:
    """Of two prompts with three completions each, of another, and padding behind one row."""
    lengths = np.array([9, 7, 12, 5, 8, 6, 14])
    ids = np.arange(7 * 14).reshape(7, 14)
    ids[:3, :4], ids[3:6, :3] = 500, 600
    rows = pack_prefix_trees(ids, lengths, np.array([4, 4, 4, 3, 3, 3, 2]), max_row=30)
    return rows.tree_ids, rows.branch_ids


def test_values_and_gradients_are_those_of_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_ROW", 1)
    monkeypatch.setattr(module, "MIN_SEGMENT", 1)
    tree_ids, branch_ids = trees()
    assert (tree_ids < 0).any()
    mask = prefix_tree_mask(torch.from_numpy(tree_ids), torch.from_numpy(branch_ids))
    torch.manual_seed(0)
    inputs = [
        torch.randn(len(mask), 2, mask.shape[-1], 4, dtype=torch.float64, requires_grad=True) for _ in "qkv"
    ]
    assert tree_attention(*inputs, mask, None) is None  # nobody noted its segments
    remember_segments(mask, tree_ids, branch_ids)
    found, expected = (
        tree_attention(*inputs, mask, 0.3),
        functional.scaled_dot_product_attention(*inputs, attn_mask=mask, scale=0.3),
    )
    assert found is not None
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    grads = [torch.autograd.grad((one * weights).sum(), inputs) for one in (found, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
    assert tree_attention(*inputs, mask & True, 0.3) is None  # another mask


def test_short_rows_and_short_segments_are_computed_as_a_whole() -> None:
    tree_ids, branch_ids = trees()
    mask = prefix_tree_mask(torch.from_numpy(tree_ids), torch.from_numpy(branch_ids))
    remember_segments(mask, tree_ids, branch_ids)
    vectors = torch.randn(len(mask), 1, mask.shape[-1], 4)
    assert tree_attention(vectors, vectors, vectors, mask, None) is None
