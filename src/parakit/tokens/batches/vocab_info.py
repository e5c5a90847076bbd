"""What noising must know of a vocabulary, told once as arrays over token ids.

A word ends where white space or a sign stands: a token opens a word when it brings its own space (byte-level
"Ġ", sentencepiece "▁"), begins with a sign, or is no WordPiece continuation ("##"); and whatever follows a token
that ends in a sign or in space opens one, too. Bytes of a half character count as letters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_METASPACE, _CONTINUES = "▁", "##"


@dataclass(frozen=True)
class TokenFacts:
    """Facts of a vocabulary. V ids."""

    special: np.ndarray  # (V,) bool: control tokens and UNK; never hidden, never drawn
    ordinary_ids: np.ndarray  # (n,) int64: what a hidden token may be replaced by
    opens_word: np.ndarray  # (V,) bool
    closes_word: np.ndarray  # (V,) bool: the next token opens a word, whatever it is
    unk_id: int = -1  # -1: text has no unknown
    mask_id: int | None = None
    cls_id: int | None = None
    sep_id: int | None = None
    eos_id: int | None = None
    pad_id: int = 0
    sentinel_ids: tuple[int, ...] = ()  # in the order in which they are used


def token_facts(tokenizer: Tokenizer) -> TokenFacts:
    """Read the facts from a tokenizer."""
    n = tokenizer.vocab_size
    special = np.zeros(n, np.bool_)
    special[sorted(tokenizer.control_ids)] = True
    if tokenizer.unk_id is not None:
        special[tokenizer.unk_id] = True
    spelled = [_spelled(tokenizer, token_id) for token_id in range(n)]
    absent = np.array([text is None for text in spelled])
    opens = np.array([not text or not _is_letter(text[0]) for text in spelled])
    closes = np.array([not text or not _is_letter(text[-1]) for text in spelled])
    if tokenizer.kind == "wordpiece":
        opens, closes = np.array([not (text or "").startswith(_CONTINUES) for text in spelled]), special
    elif tokenizer.kind == "word":
        opens[:] = True
    return TokenFacts(
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
        sentinel_ids=tuple(i for i in map(tokenizer.token_id, tokenizer.special.sentinels) if i is not None),
    )


def need(facts: TokenFacts, names: Sequence[str], what: str) -> None:
    """Raise `UserError` for the first of `names` ("mask", "eos", ...) that the tokenizer lacks."""
    for name in names:
        if getattr(facts, f"{name}_id") is None:
            raise UserError(
                f"{what} needs a {name.upper()} token, and this tokenizer has none",
                "use a tokenizer that parakit trained, or one that was made for this",
            )


def _spelled(tokenizer: Tokenizer, token_id: int) -> str | None:
    """What a token looks like, None for an id without a token."""
    try:
        token = tokenizer.token(token_id)
    except UserError:
        return None
    if tokenizer.kind == "byte_bpe":
        return tokenizer.token_bytes[token_id].decode("utf-8", "surrogateescape")
    return token if tokenizer.kind == "wordpiece" else token.replace(_METASPACE, " ")


def _is_letter(char: str) -> bool:
    """Letters, digits and the marks on them; a byte of a half character counts as one."""
    return unicodedata.category(char)[0] in "LNM" or "\udc80" <= char <= "\udcff"
