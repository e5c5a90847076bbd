"""Sequences behind the beginnings they share: each sees itself and nothing else, at its own positions."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.model.layers.masks import prefix_tree_mask
from parakit.tokens.batches.prefix_trees import PrefixTreeRows, pack_prefix_trees

# Groups: a prompt's tokens, and the lengths of what follows it
GROUPS = st.lists(
    st.tuples(
        st.lists(st.integers(3, 5), min_size=1, max_size=5),
        st.lists(st.integers(0, 6), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=5,
)


def laid(groups: list[tuple[list[int], list[int]]]) -> tuple[PrefixTreeRows, list[list[int]]]:
    """The rows, and the sequences that went in; every token behind a prompt is another, and one sequence is so long that
    no tree is too long.
    """
    sequences, shared = [], []
    fresh = iter(range(10, 10_000))
    for prompt, lengths in groups:
        for n in lengths:
            sequences.append([*prompt, *(next(fresh) for _ in range(n))])
            shared.append(len(prompt))
    sequences.append([*range(20_000, 20_100)])
    shared.append(1)
    ids = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    lengths = np.array(list(map(len, sequences)))
    return pack_prefix_trees(ids, lengths, np.array(shared)), sequences


@settings(max_examples=60, deadline=None)
@given(GROUPS)
def test_every_token_sees_its_own_sequence_up_to_itself(groups: list[tuple[list[int], list[int]]]) -> None:
    rows, sequences = laid(groups)
    width = rows.token_ids.shape[1]
    mask = prefix_tree_mask(*(torch.from_numpy(one) for one in (rows.tree_ids, rows.branch_ids)))[:, 0]
    for sequence, places in zip(sequences, rows.places, strict=True):
        own = places[: len(sequence)]
        assert rows.token_ids.ravel()[own].tolist() == sequence
        assert rows.position_ids.ravel()[own].tolist() == list(range(len(sequence)))
        for n, place in enumerate(own.tolist(), 1):
            row, column = divmod(place, width)
            seen = row * width + mask[row, column].nonzero().ravel().numpy()
            assert seen.tolist() == own[:n].tolist()


@settings(max_examples=60, deadline=None)
@given(GROUPS)
def test_what_is_shared_stands_once(groups: list[tuple[list[int], list[int]]]) -> None:
    rows, _ = laid(groups)
    by_prompt = [list(part) for _, part in groupby(groups, lambda one: one[0])]
    wanted = sum(len(part[0][0]) + sum(sum(lengths) for _, lengths in part) for part in by_prompt)
    assert int((rows.tree_ids >= 0).sum()) == wanted + 100
    assert len(np.unique(rows.tree_ids[rows.tree_ids >= 0])) == len(by_prompt) + 1


def test_other_prompts_share_nothing() -> None:
    ids = np.array([[3, 4, 10], [3, 5, 11], [3, 4, 12]])
    assert int((pack_prefix_trees(ids, np.full(3, 3), np.full(3, 2)).tree_ids >= 0).sum()) == 9


def test_a_tree_is_at_most_twice_as_long_as_the_longest_sequence() -> None:
    ids = np.arange(48).reshape(6, 8) + 10
    ids[:, :2] = 3
    rows = pack_prefix_trees(ids, np.full(6, 8), np.full(6, 2))
    assert rows.token_ids.shape == (3, 14)  # a prompt of 2 and two answers of 6
