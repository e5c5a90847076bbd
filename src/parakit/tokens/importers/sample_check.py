"""The check of an imported tokenizer: it encodes and decodes a fixed sample, or the import stops.

Byte BPE must give back its normalized text exactly. Other kinds lose spaces, case or accents by design, and characters
outside their vocabulary; what is left of the text after that must come back.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import TYPE_CHECKING

from parakit.common.errors import UserError

if TYPE_CHECKING:
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

SAMPLES = (
    "The quick brown fox jumps over the lazy dog, doesn't it? (Yes!)",
    "In 2024 it was 3.14159, 50 % of 1,234,567.",
    "  two spaces,\n\ta line and a tab \n",
    "Straße, façade, ¡olé!, naïve, ½",
    "Привет, мир. Γειά σου.",
    "你好,世界。こんにちは 안녕하세요",
    "مرحبا नमस्ते สวัสดี",
    "😀 👩\u200d👧 ✓",
)
_HINT = (
    "the files are damaged, belong to different tokenizers, or use a feature that is not supported: fetch them again; "
    "if that changes nothing, report this message"
)


def check_sample(tokenizer: Tokenizer | None, source: object) -> None:
    """`UserError` naming `source` where its tokenizer fails on the samples or does not give them back."""
    if tokenizer is None:
        return
    any_known = False
    for sample in SAMPLES:
        try:
            token_ids = _encode(tokenizer, sample)
            decoded = tokenizer.decode(token_ids)
            came_back = _came_back(tokenizer, sample, token_ids, decoded)
        except BaseException as error:  # a panic of tokenizers is no Exception
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                raise
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"{source}: its tokenizer fails on {sample!r}: {type(error).__name__}: {reason}", _HINT
            ) from error
        if not came_back:
            raise UserError(f"{source}: its tokenizer turns {sample!r} into {decoded!r}", _HINT)
        any_known |= set(token_ids) != {tokenizer.unk_id}
    if not any_known:
        raise UserError(f"{source}: its tokenizer knows no character of any sample text", _HINT)


def _encode(tokenizer: Tokenizer, sample: str) -> list[int]:
    token_ids = tokenizer.encode(sample)
    (bulk,) = tokenizer.encode_bulk([sample])
    if bulk.tolist() != token_ids:
        raise ValueError("its ids differ between one text and many")
    if not all(0 <= token_id < tokenizer.vocab_size for token_id in token_ids):
        raise ValueError(f"an id outside the vocabulary of {tokenizer.vocab_size}")
    return token_ids


def _came_back(tokenizer: Tokenizer, sample: str, token_ids: list[int], decoded: str) -> bool:
    expected = tokenizer.normalize(sample)
    if tokenizer.kind == "byte_bpe":
        return decoded in (expected, f" {expected}")  # some prepend a space
    runs = [
        [token_id for token_id in run if token_id != tokenizer.unk_id]
        for _, run in groupby(token_ids, lambda token_id: token_id == tokenizer.unk_id)
    ]  # empty where unknown characters are
    pattern = "".join(re.escape(_bare(tokenizer.decode(run))) if run else ".*" for run in runs)
    return re.fullmatch(pattern, _bare(expected)) is not None


def _bare(text: str) -> str:
    """`text` without what vocabularies lose by design: case, accents, compatibility forms, spaces, invisible marks."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    dropped = ("M", "Z", "C")
    return "".join(c for c in decomposed if unicodedata.category(c)[0] not in dropped and c != "\u2581")
