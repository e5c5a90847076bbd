"""Prefix trees: sequences with a shared prefix, packed so that the prefix is computed once: a prompt followed by its
completions, which do not attend to each other.

Each completion's positions continue the prompt's, so under a mask that lets it attend to its prompt and itself only it
gets the same hidden states as in a row of its own. Whole trees of a prompt and its branches are packed into rows
best-fit, like documents. Unless the caller says otherwise a tree is at most twice as long as the longest sequence, so that
many completions do not make a row whose attention costs more than is saved.

Numpy only; N sequences, S tokens of the longest, R rows, T tokens of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parakit.tokens.batches.packing import best_fit_decreasing


@dataclass(frozen=True)
class PrefixTreeRows:
    """Trees in rows; padding has tree -1."""

    token_ids: np.ndarray  # (R, T) int64
    position_ids: np.ndarray  # (R, T) int64: a token's position in its own sequence
    tree_ids: np.ndarray  # (R, T) int32, numbered over all rows
    branch_ids: np.ndarray  # (R, T) int32; 0 = the shared prefix
    places: (
        np.ndarray
    )  # (N, S) int64: the indices of a sequence's tokens in the flattened rows; 0 for padding


def pack_prefix_trees(
    token_ids: np.ndarray, lengths: np.ndarray, n_shared: np.ndarray, max_row: int | None = None
) -> PrefixTreeRows:
    """Pack sequences `token_ids` (N, S), the first `lengths` (N,) tokens of each, as trees. Consecutive sequences share
    their first `n_shared` (N,) tokens where these are equal; otherwise nothing is shared. A row has up to `max_row`
    tokens, or what one sequence needs; None: what the largest tree needs, which is at most twice the longest sequence.
    """
    longest = int(lengths.max())
    trees = _trees(token_ids, lengths, n_shared, 2 * longest if max_row is None else max(max_row, longest))
    sizes = np.array([n_shared[tree[0]] + (lengths - n_shared)[tree].sum() for tree in trees])
    order = np.argsort(-sizes, kind="stable")
    row_of = best_fit_decreasing(sizes[order], max(int(sizes.max()), max_row or 0))
    shape = (int(row_of.max()) + 1, int(np.bincount(row_of, sizes[order]).max()))
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tree_ids, branch_ids = np.full(shape, -1, np.int32), np.zeros(shape, np.int32)
    places = np.zeros(token_ids.shape, np.int64)
    filled = np.zeros(shape[0], np.int64)

    def append(row: int, sequence: int, begin: int, end: int, tree: int, branch: int) -> np.ndarray:
        """Append tokens `begin` to `end` of a sequence to a row; returns their indices in the flattened rows."""
        columns = slice(int(filled[row]), int(filled[row]) + end - begin)
        ids[row, columns] = token_ids[sequence, begin:end]
        positions[row, columns] = np.arange(begin, end)
        tree_ids[row, columns], branch_ids[row, columns] = tree, branch
        filled[row] = columns.stop
        return row * shape[1] + np.arange(columns.start, columns.stop)

    for number, row in zip(order.tolist(), row_of.tolist(), strict=True):
        n = int(n_shared[trees[number][0]])
        shared = append(row, trees[number][0], 0, n, number, 0)
        for branch, sequence in enumerate(trees[number], 1):
            end = int(lengths[sequence])
            places[sequence, :n] = shared
            places[sequence, n:end] = append(row, sequence, n, end, number, branch)
    return PrefixTreeRows(ids, positions, tree_ids, branch_ids, places)


def _trees(token_ids: np.ndarray, lengths: np.ndarray, n_shared: np.ndarray, limit: int) -> list[list[int]]:
    """The indices of the sequences of each tree, of at most `limit` tokens where it has several."""
    trees: list[list[int]] = []
    size, current_prefix = 0, b""
    for i in range(len(token_ids)):
        prefix = token_ids[i, : n_shared[i]].tobytes()
        own = int(lengths[i] - n_shared[i])
        if prefix == current_prefix and size + own <= limit:
            trees[-1].append(i)
            size += own
        else:
            trees.append([i])
            size, current_prefix = int(lengths[i]), prefix
    return trees
