"""The special tokens around one text and around two, taken from `frame_text` once and put on where batches are
made: so a text that is too long is cut inside its frame, never through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.tokenizer.special_tokens_template import Family, frame_text
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_FIRST, _SECOND = -1, -2  # stand for the texts


@dataclass(frozen=True)
class Frame:
    """Ids around the texts, and token types: of these ids one each, of a text one for all of it."""

    parts: tuple[
        tuple[int, ...], ...
    ]  # before the first text, after it (and before the second), after the second
    part_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def n_ids(self) -> int:
        """How many ids the frame itself takes."""
        return sum(map(len, self.parts))

    @property
    def has_types(self) -> bool:
        """Whether any token type is not 0."""
        return any(self.text_types) or any(map(any, self.part_types))

    def around(self, *texts: np.ndarray) -> np.ndarray:
        """The framed ids of one text, or of two."""
        pieces = [np.array(self.parts[0], np.int64)]
        for text, part in zip(texts, self.parts[1:], strict=True):
            pieces += [np.asarray(text, np.int64), np.array(part, np.int64)]
        return np.concatenate(pieces)

    def types(self, *lengths: int) -> np.ndarray:
        """Token types of framed texts of these lengths."""
        pieces = [np.array(self.part_types[0], np.int64)]
        for length, text_type, part in zip(lengths, self.text_types, self.part_types[1:], strict=True):
            pieces += [np.full(length, text_type, np.int64), np.array(part, np.int64)]
        return np.concatenate(pieces)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Frame:
        """What `to_dict` gave, through JSON."""
        parts, part_types = (tuple(map(tuple, values[name])) for name in ("parts", "part_types"))
        return cls(parts, part_types, tuple(values["text_types"]))


def frame_of(tokenizer: Tokenizer, family: Family, n_texts: int) -> Frame:
    """How the models of `family` that use this tokenizer read one text, or two; `UserError` where the tokenizer
    frames them in no order that is known.
    """
    marks = (_FIRST, _SECOND)[:n_texts]
    framed = frame_text(tokenizer, [_FIRST], [_SECOND] if n_texts == 2 else None, family)
    places = [i for i, token_id in enumerate(framed.token_ids) if token_id in marks]
    if [framed.token_ids[i] for i in places] != list(marks):
        raise UserError(
            "this tokenizer's post-processor does not put its texts one after the other",
            "give it a template such as `[CLS] $A [SEP] $B [SEP]`",
        )
    edges = [(begin, end) for begin, end in zip([0, *(i + 1 for i in places)], [*places, None], strict=True)]
    return Frame(
        tuple(tuple(framed.token_ids[begin:end]) for begin, end in edges),
        tuple(tuple(framed.token_type_ids[begin:end]) for begin, end in edges),
        tuple(framed.token_type_ids[i] for i in places),
    )


def cut_to_fit(lengths: Sequence[int], limit: int) -> list[int]:
    """Lengths of one text or two that together have at most `limit` tokens: the longer is cut first; where both are
    cut, the longer keeps the odd token, and the second of equals (as `tokenizers` does).
    """
    if sum(lengths) <= limit:
        return list(lengths)
    if len(lengths) == 1:
        return [limit]
    shorter = min(*lengths, limit // 2)
    return [limit - shorter, shorter] if lengths[0] > lengths[1] else [shorter, limit - shorter]
