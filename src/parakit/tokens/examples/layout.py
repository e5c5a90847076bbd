"""From texts in flat files to padded rows with special tokens. B examples, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parakit.tokens.examples.shards import EncodedTexts
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate


@dataclass(frozen=True)
class PaddedTexts:
    """Texts with special tokens, padded to the longest."""

    token_ids: np.ndarray  # (B, T) int64
    types: np.ndarray  # (B, T) int64: token types
    real: np.ndarray  # (B, T) bool, False = padding

    def truncate(self, seq_len: int) -> PaddedTexts:
        """The first `seq_len` tokens of each row."""
        return PaddedTexts(self.token_ids[:, :seq_len], self.types[:, :seq_len], self.real[:, :seq_len])


def pad_texts(
    template: SpecialTokensTemplate,
    texts: Sequence[EncodedTexts],
    examples: np.ndarray,
    kept: Sequence[np.ndarray],
    pad_id: int,
) -> PaddedTexts:
    """PaddedTexts of `examples`: the first `kept[k]` tokens of text k, (B,) each, with the template's special tokens."""
    lengths = np.sum(kept, axis=0) + template.n_tokens
    real = np.arange(max(1, int(lengths.max(initial=0)))) < lengths[:, None]
    token_ids, types = np.full(real.shape, pad_id, np.int64), np.zeros(real.shape, np.int64)
    row, column = np.arange(len(lengths)), np.zeros(len(lengths), np.int64)
    for k, (part, part_types) in enumerate(zip(template.parts, template.part_types, strict=True)):
        for token_id, token_type in zip(part, part_types, strict=True):
            token_ids[row, column], types[row, column] = token_id, token_type
            column += 1
        if k < len(texts):
            n = np.asarray(kept[k], np.int64)
            step = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)  # 0, 1, ... within each text
            positions = np.repeat(row, n), np.repeat(column, n) + step
            token_ids[positions] = texts[k].token_ids[np.repeat(texts[k].offsets[examples], n) + step]
            types[positions] = template.text_types[k]
            column += n
    return PaddedTexts(token_ids, types, real)


def merge_rows(first: PaddedTexts, second: PaddedTexts, is_second: np.ndarray, pad_id: int) -> PaddedTexts:
    """Interleave two: row b is the next of `second` where `is_second[b]`, else of `first`."""
    shape = (len(is_second), max(first.real.shape[1], second.real.shape[1]))
    rows = PaddedTexts(np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.bool_))
    for one, chosen in ((first, ~is_second), (second, is_second)):
        for name in ("token_ids", "types", "real"):
            getattr(rows, name)[chosen, : one.real.shape[1]] = getattr(one, name)
    return rows
