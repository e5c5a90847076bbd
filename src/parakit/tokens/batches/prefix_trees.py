"""Sequences that begin alike, laid so that what they share is read once: a prompt, and behind it its completions, which
do not see each other.

Each completion goes on from the prompt's last position, so under a mask that lets it see its prompt and itself alone it
gets the vectors that it would get in a row of its own. Whole trees of a prompt and its branches are packed into rows
best-fit, as documents are. A tree is at most twice as long as the longest sequence, so that many completions make no
row whose attention costs more than what is saved.

Numpy only; N sequences, S places of the longest, R rows, T places of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parakit.tokens.batches.packing import best_fit_decreasing


@dataclass(frozen=True)
class PrefixTreeRows:
    """Trees side by side; padding has tree -1."""

    token_ids: np.ndarray  # (R, T) int64
    position_ids: np.ndarray  # (R, T) int64: where a token stands in its own sequence
    tree_ids: np.ndarray  # (R, T) int32, counted through all rows
    branch_ids: np.ndarray  # (R, T) int32; 0 = what all of a tree share
    places: np.ndarray  # (N, S) int64: where a sequence's tokens stand in the flattened rows; 0 for padding


def pack_prefix_trees(token_ids: np.ndarray, lengths: np.ndarray, n_shared: np.ndarray) -> PrefixTreeRows:
    """Lay sequences `token_ids` (N, S), the first `lengths` (N,) tokens of each, as trees. Neighbours share their first
    `n_shared` (N,) tokens where these are the same; where they are not, nothing is shared.
    """
    trees = _trees(token_ids, lengths, n_shared)
    sizes = np.array([n_shared[tree[0]] + (lengths - n_shared)[tree].sum() for tree in trees])
    order = np.argsort(-sizes, kind="stable")
    row_of = best_fit_decreasing(sizes[order], int(sizes.max()))
    shape = (int(row_of.max()) + 1, int(sizes.max()))
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tree_ids, branch_ids = np.full(shape, -1, np.int32), np.zeros(shape, np.int32)
    places = np.zeros(token_ids.shape, np.int64)
    filled = np.zeros(shape[0], np.int64)

    def put(row: int, sequence: int, begin: int, end: int, tree: int, branch: int) -> np.ndarray:
        """Tokens `begin` to `end` of a sequence onto the end of a row; where they stand."""
        columns = slice(int(filled[row]), int(filled[row]) + end - begin)
        ids[row, columns] = token_ids[sequence, begin:end]
        positions[row, columns] = np.arange(begin, end)
        tree_ids[row, columns], branch_ids[row, columns] = tree, branch
        filled[row] = columns.stop
        return row * shape[1] + np.arange(columns.start, columns.stop)

    for number, row in zip(order.tolist(), row_of.tolist(), strict=True):
        n = int(n_shared[trees[number][0]])
        shared = put(row, trees[number][0], 0, n, number, 0)
        for branch, sequence in enumerate(trees[number], 1):
            end = int(lengths[sequence])
            places[sequence, :n] = shared
            places[sequence, n:end] = put(row, sequence, n, end, number, branch)
    return PrefixTreeRows(ids, positions, tree_ids, branch_ids, places)


def _trees(token_ids: np.ndarray, lengths: np.ndarray, n_shared: np.ndarray) -> list[list[int]]:
    """The numbers of the sequences that share a beginning, tree by tree."""
    limit = 2 * int(lengths.max())
    trees: list[list[int]] = []
    size, newest = 0, b""
    for i in range(len(token_ids)):
        begins = token_ids[i, : n_shared[i]].tobytes()
        own = int(lengths[i] - n_shared[i])
        if begins == newest and size + own <= limit:
            trees[-1].append(i)
            size += own
        else:
            trees.append([i])
            size, newest = int(lengths[i]), begins
    return trees
