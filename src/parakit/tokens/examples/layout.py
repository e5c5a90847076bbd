"""From texts in flat files to padded rows, each text inside its frame. B examples, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parakit.tokens.examples.shards import Texts
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate


@dataclass(frozen=True)
class Rows:
    """Framed texts, padded to the longest."""

    token_ids: np.ndarray  # (B, T) int64
    types: np.ndarray  # (B, T) int64: the text that each token belongs to
    real: np.ndarray  # (B, T) bool, False = padding

    def cut(self, seq_len: int) -> Rows:
        """The first `seq_len` tokens of each row."""
        return Rows(self.token_ids[:, :seq_len], self.types[:, :seq_len], self.real[:, :seq_len])


def framed_rows(
    frame: SpecialTokensTemplate,
    texts: Sequence[Texts],
    examples: np.ndarray,
    kept: Sequence[np.ndarray],
    pad_id: int,
) -> Rows:
    """Rows of `examples`: of text k the first `kept[k]` tokens, (B,) each, between the parts of the frame."""
    lengths = np.sum(kept, axis=0) + frame.n_ids
    real = np.arange(max(1, int(lengths.max(initial=0)))) < lengths[:, None]
    token_ids, types = np.full(real.shape, pad_id, np.int64), np.zeros(real.shape, np.int64)
    row, column = np.arange(len(lengths)), np.zeros(len(lengths), np.int64)
    for k, (part, part_types) in enumerate(zip(frame.parts, frame.part_types, strict=True)):
        for token_id, token_type in zip(part, part_types, strict=True):
            token_ids[row, column], types[row, column] = token_id, token_type
            column += 1
        if k < len(texts):
            n = np.asarray(kept[k], np.int64)
            step = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)  # 0, 1, ... within each text
            places = np.repeat(row, n), np.repeat(column, n) + step
            token_ids[places] = texts[k].token_ids[np.repeat(texts[k].offsets[examples], n) + step]
            types[places] = frame.text_types[k]
            column += n
    return Rows(token_ids, types, real)


def one_below_the_other(first: Rows, second: Rows, is_second: np.ndarray, pad_id: int) -> Rows:
    """The rows of two layouts in one: row b is the next of `second` where `is_second[b]`, else of `first`."""
    shape = (len(is_second), max(first.real.shape[1], second.real.shape[1]))
    rows = Rows(np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.bool_))
    for one, places in ((first, ~is_second), (second, is_second)):
        for name in ("token_ids", "types", "real"):
            getattr(rows, name)[places, : one.real.shape[1]] = getattr(one, name)
    return rows
