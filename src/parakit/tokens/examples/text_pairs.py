"""Batches of pairs of texts (embed), with their hard negatives where rows have some. B pairs, K negatives, U tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parakit.tokens.batches.batch import TextPairBatch
from parakit.tokens.batches.length_groups import GROUPS_PER_POOL
from parakit.tokens.config import LongRowRule
from parakit.tokens.examples.layout import pad_texts
from parakit.tokens.examples.shards import EncodedLists, ExampleShards
from parakit.tokens.examples.sources import (
    ExampleSource,
    LengthGrouping,
    LimitedLengths,
    check_limit,
    check_task,
)
from parakit.tokens.long_rows import RowKind

PAIRS = RowKind("examples", "pairs", "cut")


class TextPairSource(ExampleSource[TextPairBatch]):
    """Pairs of texts with the same meaning (embed), encoded separately, with their hard negatives where there are some."""

    def __init__(
        self,
        shards: ExampleShards,
        max_seq_len: int,
        seed: int,
        *,
        too_long: LongRowRule = "truncate",
        n_rows_hint: int = 64,
        groups_per_pool: int = GROUPS_PER_POOL,
        window: int | None = None,
    ) -> None:
        check_task(shards, ("embed",))
        self.max_seq_len, self.template = max_seq_len, shards.templates[0]
        check_limit("max_seq_len", max_seq_len, self.template)
        sides = [
            LimitedLengths(shards.texts[key].lengths + self.template.n_tokens, max_seq_len)
            for key in ("text", "positive")
        ]
        grouping = LengthGrouping(too_long, n_rows_hint, groups_per_pool, window)
        tokens, longest = _of_lists(shards, self.template.n_tokens, max_seq_len)
        super().__init__(shards, seed, [*sides, LimitedLengths(longest, max_seq_len)], PAIRS, grouping)
        kept_longest = np.minimum(longest, max_seq_len)
        self.tokens_per_row += float((tokens - kept_longest)[self._examples].mean())

    def batch_of(self, examples: Sequence[int] | np.ndarray) -> TextPairBatch:
        examples, limit = np.asarray(examples), self.max_seq_len - self.template.n_tokens
        first, second = (self._pad(self.template, key, examples, limit) for key in ("text", "positive"))
        pairs = TextPairBatch(first.token_ids, first.real, second.token_ids, second.real, len(examples))
        negatives = self.shards.negatives
        return pairs if negatives is None else self._with_negatives(pairs, negatives, examples, limit)

    def _with_negatives(
        self, pairs: TextPairBatch, negatives: EncodedLists, examples: np.ndarray, limit: int
    ) -> TextPairBatch:
        begins, counts = negatives.begins[examples], np.diff(negatives.begins)[examples]
        columns = np.arange(max(1, counts.max(initial=0)))
        exists = columns < counts[:, None]  # (B, K)
        numbers = (begins[:, None] + columns)[exists]
        kept = np.minimum(negatives.texts.lengths[numbers], limit)
        texts = pad_texts(self.template, [negatives.texts], numbers, [kept], self.pad_id)
        shape = (*exists.shape, texts.real.shape[1])
        ids, real = np.full(shape, self.pad_id, np.int64), np.zeros(shape, np.bool_)
        ids[exists], real[exists] = texts.token_ids, texts.real
        return replace(pairs, negative_ids=ids, negative_mask=real)


def _of_lists(shards: ExampleShards, n_special: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the negatives of each example: tokens that are read, and the tokens of the longest; special tokens included."""
    tokens, longest = np.zeros((2, shards.n_examples), np.int64)
    if shards.negatives is not None:
        lengths = shards.negatives.texts.lengths + n_special
        example = np.repeat(np.arange(shards.n_examples), np.diff(shards.negatives.begins))
        np.add.at(tokens, example, np.minimum(lengths, limit))
        np.maximum.at(longest, example, lengths)
    return tokens, longest
