"""Vocabulary facts for masking and span corruption, as arrays over token ids.

A word ends at white space or a sign: a token opens a word when it begins with its own space (byte-level "Ġ",
sentencepiece "▁") or a sign, or is no WordPiece continuation ("##"); any token after one that ends in a sign or a space
opens a word too. Bytes of an incomplete character count as letters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_METASPACE, _CONTINUATION = "▁", "##"


@dataclass(frozen=True)
class VocabInfo:
    """Properties of a vocabulary of V ids."""

    special: np.ndarray  # (V,) bool: control tokens and UNK; never hidden, never drawn
    ordinary_ids: np.ndarray  # (n,) int64: what may replace a hidden token
    opens_word: np.ndarray  # (V,) bool
    closes_word: np.ndarray  # (V,) bool: the next token opens a word, whatever it is
    unk_id: int = -1  # -1: the tokenizer has none
    mask_id: int | None = None
    cls_id: int | None = None
    sep_id: int | None = None
    eos_id: int | None = None
    pad_id: int = 0
    sentinel_ids: tuple[int, ...] = ()  # in the order of use

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> VocabInfo:
        """Read the properties from a tokenizer."""
        n = tokenizer.vocab_size
        special = np.zeros(n, np.bool_)
        special[sorted(tokenizer.control_ids)] = True
        if tokenizer.unk_id is not None:
            special[tokenizer.unk_id] = True
        texts = [_token_text(tokenizer, token_id) for token_id in range(n)]
        absent = np.array([text is None for text in texts])
        opens = np.array([not text or not _is_letter(text[0]) for text in texts])
        closes = np.array([not text or not _is_letter(text[-1]) for text in texts])
        if tokenizer.kind == "wordpiece":
            opens, closes = np.array([not (text or "").startswith(_CONTINUATION) for text in texts]), special
        elif tokenizer.kind == "word":
            opens[:] = True
        return cls(
            special=special,
            ordinary_ids=np.flatnonzero(~special & ~absent),
            opens_word=opens | special,
            closes_word=closes | special,
            unk_id=-1 if tokenizer.unk_id is None else tokenizer.unk_id,
            mask_id=tokenizer.mask_id,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id or 0,
            sentinel_ids=tuple(tokenizer.sentinel_ids),
        )

    def require(self, names: Sequence[str], purpose: str) -> None:
        """Raise `UserError` for the first of `names` ("mask", "eos", ...) that the tokenizer lacks."""
        for name in names:
            if getattr(self, f"{name}_id") is None:
                raise UserError(
                    f"{purpose} needs a {name.upper()} token, and this tokenizer has none",
                    "use a tokenizer that parakit trained, or one made for this objective",
                )


def _token_text(tokenizer: Tokenizer, token_id: int) -> str | None:
    """The text of a token, None for an id without a token."""
    try:
        token = tokenizer.token(token_id)
    except UserError:
        return None
    if tokenizer.kind == "byte_bpe":
        return tokenizer.token_bytes[token_id].decode("utf-8", "surrogateescape")
    return token if tokenizer.kind == "wordpiece" else token.replace(_METASPACE, " ")


def _is_letter(char: str) -> bool:
    """Letters, digits and the marks on them; a byte of an incomplete character counts as one."""
    return unicodedata.category(char)[0] in "LNM" or "\udc80" <= char <= "\udcff"
