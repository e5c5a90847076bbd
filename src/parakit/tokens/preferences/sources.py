"""Batches of rankings: a pure function of (seed, row number), endless, each ranking once an epoch, with neighbours of
similar length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from parakit.tokens.batches.batch import RankingBatch
from parakit.tokens.batches.length_groups import GROUPS_PER_POOL, LengthGroups
from parakit.tokens.preferences.encoding import EncodedRankings


class PreferenceSource:
    """`reference` (n_completions,): log-probabilities of the completions under the reference, where a method needs them.
    `n_rows_hint` is the number of rankings of a step; `share_prompts` is for models that support prefix trees.
    """

    def __init__(
        self,
        data: EncodedRankings,
        seed: int,
        reference: np.ndarray | None = None,
        *,
        n_rows_hint: int = 32,
        groups_per_pool: int = GROUPS_PER_POOL,
        share_prompts: bool = False,
    ) -> None:
        assert reference is None or len(reference) == data.n_completions
        self.data, self.seed, self.reference, self.pad_id = data, seed, reference, data.pad_id or 0
        self.share_prompts = share_prompts
        longest = np.maximum.reduceat(data.lengths, data.first[:-1])
        self._order_by = longest + np.add.reduceat(data.lengths, data.first[:-1]) / (2 * data.offsets[-1])
        self._groups = LengthGroups(self._order_by, seed, n_rows_hint, groups_per_pool)
        self.rows_per_epoch = float(data.n_examples)

    def rows(self, start_row: int, n_rows: int) -> RankingBatch:
        """Rows `start_row` to `start_row + n_rows - 1`, a pure function of the seed."""
        return self.batch_of(self._groups.examples(start_row, n_rows))

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return row / self.rows_per_epoch

    def rankings(self, n_rows: int) -> np.ndarray:
        """The indices of the rankings that the first `n_rows` rows read, each once, ascending."""
        if n_rows >= self.data.n_examples:
            return np.arange(self.data.n_examples)
        return np.unique(self._groups.examples(0, n_rows))

    def one_pass(
        self, rows_per_batch: int, rankings: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, RankingBatch]]:
        """Every ranking, or each of `rankings`, once, in a fixed order, the longest first: (indices of the rankings,
        their batch).
        """
        order = np.argsort(-self._order_by, kind="stable")
        if rankings is not None:
            order = order[np.isin(order, rankings)]
        for start in range(0, len(order), rows_per_batch):
            numbers = order[start : start + rows_per_batch]
            yield numbers, self.batch_of(numbers)

    def batch_of(self, rankings: Sequence[int] | np.ndarray) -> RankingBatch:
        """These rankings as one batch, in this order."""
        data, numbers = self.data, np.asarray(rankings)
        n_completions = data.first[numbers + 1] - data.first[numbers]
        own = [np.arange(data.first[r], data.first[r + 1]) for r in numbers]
        width = max(int(data.lengths[places].max()) for places in own) - 1
        shape = (len(numbers), int(n_completions.max()), width)
        input_ids, target_ids = (np.full(shape, self.pad_id, np.int64) for _ in range(2))
        loss_mask, real = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        reference = None if self.reference is None else np.zeros(shape[:2], np.float32)
        for row, places in enumerate(own):
            for place, i in enumerate(places):
                token_ids = data.sequence(i)
                n = len(token_ids) - 1
                input_ids[row, place, :n], target_ids[row, place, :n] = token_ids[:-1], token_ids[1:]
                loss_mask[row, place, data.prompt_lengths[i] - 1 : n] = True
                real[row, place, :n] = True
            if reference is not None and self.reference is not None:
                reference[row, : len(places)] = self.reference[places]
        return RankingBatch(
            input_ids, target_ids, loss_mask, real, data.margins[numbers], len(numbers), reference,
            self.share_prompts,
        )  # fmt: skip
