"""The order of examples: each once an epoch, with neighbours of similar length.

Each epoch is shuffled and divided into pools; within a pool examples are sorted by length and cut into groups of as many
rows as a step has, and the groups of all pools come in random order. So a batch has little padding, its micro-batches
have less, and short and long batches alternate. Groups are aligned with steps, at multiples of their size, whatever the
size of an epoch; the rows at an epoch's edges, which fill no group, are in random order.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from parakit.common.seeds import rng

GROUPS_PER_POOL = 128


class LengthGroups:
    """The example of each row, a pure function of (seed, row)."""

    def __init__(
        self, lengths: np.ndarray, seed: int, rows_per_group: int, groups_per_pool: int = GROUPS_PER_POOL
    ) -> None:
        assert len(lengths)
        assert rows_per_group > 0
        self.lengths, self.seed = np.asarray(lengths), seed
        self.rows_per_group, self.rows_per_pool = rows_per_group, rows_per_group * groups_per_pool
        self._order = lru_cache(maxsize=3)(self._epoch)

    def examples(self, start_row: int, n_rows: int) -> np.ndarray:
        """(n_rows,) indices of the examples in these rows."""
        per_epoch, parts, row = len(self.lengths), [], start_row
        while row < start_row + n_rows:
            epoch, first = divmod(row, per_epoch)
            n = min(per_epoch - first, start_row + n_rows - row)
            parts.append(self._order(epoch)[first : first + n])
            row += n
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> np.ndarray:
        """All examples in the order of this epoch's rows."""
        generator, n, size = rng(self.seed, "examples", epoch), len(self.lengths), self.rows_per_group
        shuffled = generator.permutation(n)
        n_before = min(-epoch * n % size, n)  # rows that complete the last step of the epoch before
        n_whole = (n - n_before) // size * size
        middle = shuffled[n_before : n_before + n_whole]
        pool = np.arange(n_whole) // self.rows_per_pool
        middle = middle[np.lexsort((self.lengths[middle], pool))].reshape(-1, size)
        middle = middle[generator.permutation(len(middle))]
        return np.concatenate([shuffled[:n_before], middle.ravel(), shuffled[n_before + n_whole :]])
