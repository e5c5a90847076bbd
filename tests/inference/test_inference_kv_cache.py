"""The cache: what was written comes back, for rows of equal and of unequal length; rows leave without a
trace.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parakit.inference.generation.kv_cache import KVCache
from parakit.model import DecoderConfig

CONFIG = DecoderConfig(
    vocab_size=5, d_model=4, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=2, d_ff=4, max_seq_len=64
)


def write(cache, n_new, stamp):
    """Write `n_new` tokens to every row; a token's key is stamp + row + its number, its value minus that."""
    key = stamp + torch.arange(cache.n_rows)[:, None, None, None] * 0.1 + torch.arange(n_new)[:, None] * 0.01
    key = key.expand(cache.n_rows, 2, n_new, 2).float()
    out = [cache.update(layer, key + layer * 100, -key - layer * 100) for layer in range(2)]
    return key[:, 0, :, 0], out


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 4), st.randoms(use_true_random=False)
)
def test_the_cache_equals_lists_that_grow_shrink_and_leave(moves, n_rows, random):
    cache = KVCache(CONFIG, n_rows, 64)
    rows = [[] for _ in range(n_rows)]
    for stamp, move in enumerate(moves, 1):
        if move <= 1:
            new, out = write(cache, 1 + 2 * move, stamp)
            rows = [row + values.tolist() for row, values in zip(rows, new, strict=True)]
            for layer, (keys, values) in enumerate(out):
                for i, row in enumerate(rows):
                    expected = torch.tensor(row) + layer * 100
                    torch.testing.assert_close(keys[i, 1, : len(row), 0], expected)
                    torch.testing.assert_close(values[i, 0, : len(row), 1], -expected)
        elif move == 2:
            rows = [row[: random.randint(0, len(row))] for row in rows]
            cache.truncate([len(row) for row in rows])
        elif len(rows) > 1:
            order = random.sample(range(len(rows)), len(rows) - 1)
            rows = [rows[i] for i in order]
            cache.select(order)
        assert cache.lengths == [len(row) for row in rows]
        assert cache.seq_len == max(map(len, rows))


def test_a_token_may_attend_to_its_own_slot_and_all_before():
    cache = KVCache(CONFIG, 2, 64)
    assert cache.attention_mask(5) is None  # an empty cache: plain causal attention is right
    write(cache, 4, 1)
    assert cache.attention_mask(1) is None
    assert cache.attention_mask(2)[0, 0].int().tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    cache.truncate([4, 1])
    assert cache.is_ragged
    assert cache.position_ids(2).tolist() == [[4, 5], [1, 2]]
    assert cache.attention_mask(1)[:, 0, 0].int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]


def test_memory_is_allocated_once():
    cache = KVCache(CONFIG, 3, 64)
    address = cache.keys[1].data_ptr()
    write(cache, 4, 1)
    cache.truncate([4, 2, 1])
    cache.select([2, 1])
    keys = write(cache, 1, 2)[1][1][0]
    assert keys.data_ptr() == address


def test_more_tokens_than_there_is_room_for_is_a_broken_invariant():
    cache = KVCache(CONFIG, 1, 3)
    write(cache, 3, 1)
    with pytest.raises(AssertionError, match="4 tokens in a cache made for 3"):
        write(cache, 1, 2)
