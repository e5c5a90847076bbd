"""Conversion of a sentencepiece model to a tokenizer.json with the same ids.

Normalization, the prepended space and the escaping of spaces become normalizers; Unigram keeps its scores; BPE, which
merges any two neighbours whose join is a piece, gets every such pair as a merge, the best score first and of equals the
longer left part, which is further left in a run; its user-defined pieces become added tokens. Features without a
counterpart in `tokenizers` are refused.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence

from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.importers.sentencepiece_model import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
)
from parakit.tokens.importers.tokenizer_json import added_token, base_json
from parakit.tokens.tokenizer.fast_encoding import is_text

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
# Unigram: a byte piece encodes one byte of an unknown character. Text that spells its name must not become it, and does
# not while its characters are known.
NEVER = -1e6


def sentencepiece_json(model: SentencePieceModel, where: str) -> JsonObject:
    """The tokenizer.json, as a mapping, of a sentencepiece model, without special tokens around a text. `UserError`
    naming `where` for a feature that cannot be converted.
    """
    _check(model, where)
    own = {} if model.model == "unigram" else _user_defined(model, where)
    added = {
        i: added_token(i, piece.piece)
        for i, piece in enumerate(model.pieces)
        if piece.kind in (CONTROL, UNKNOWN, UNUSED)
    } | own
    words = [token["content"] for token in own.values() if token["normalized"]]
    return {
        **base_json([added[i] for i in sorted(added)]),
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(model, words)},
        "pre_tokenizer": _pre_tokenizer(model),
        "decoder": {"type": "Sequence", "decoders": _decoders(model)},
        "model": _unigram(model) if model.model == "unigram" else _bpe(model),
    }


def _pre_tokenizer(model: SentencePieceModel) -> JsonObject | None:
    """If no piece contains an inner space, text may be split at spaces, which is many times as fast."""
    kinds = (NORMAL, USER_DEFINED) if model.model == "unigram" else (NORMAL,)
    if any(SPACE in piece.piece[1:] for piece in model.pieces if piece.kind in kinds):
        return None
    return {"type": "Split", "pattern": {"String": SPACE}, "behavior": "MergedWithNext", "invert": False}


def _user_defined(model: SentencePieceModel, where: str) -> dict[int, JsonObject]:
    """A BPE model's user-defined pieces, which no merge makes: normalized text that spells one is cut there, before the
    merges. Those that look like markers are control tokens, into which no text turns here.
    """
    found = {i: piece.piece for i, piece in enumerate(model.pieces) if piece.kind == USER_DEFINED}
    words = [piece for piece in found.values() if is_text(piece)]
    if words:
        steps = {"type": "Sequence", "normalizers": _normalizers(model, words)}
        empty = base_json([]) | {"normalizer": steps, "model": {"type": "BPE", "vocab": {}, "merges": []}}
        normalizer = HuggingFaceTokenizer.from_str(json.dumps(empty)).normalizer
        if changed := [word for word in words if normalizer.normalize_str(word) != word]:
            raise UserError(
                f"{where}: normalization would change its user-defined piece {changed[0]!r}, which sentencepiece keeps",
                "use the model's tokenizer.json, if its publisher has one",
            )
    return {
        i: added_token(i, piece, special=not is_text(piece)) | {"normalized": is_text(piece)}
        for i, piece in found.items()
    }


def _check(model: SentencePieceModel, where: str) -> None:
    reason = None
    if model.model not in ("unigram", "bpe"):
        reason = f"its model is of type {model.model!r}, not unigram or bpe"
    elif model.suffix_spaces:
        reason = "it appends spaces to words, which tokenizer.json cannot express"
    elif not model.escape_spaces:
        reason = "it does not escape spaces, but its pieces have none"
    elif model.denormalizes:
        reason = "it rewrites decoded text by a table"
    elif model.model == "bpe" and any(piece.kind == UNUSED for piece in model.pieces):
        reason = "a BPE model with unused pieces splits text as no merge list does"
    if reason:
        raise UserError(f"{where}: {reason}", "use the model's tokenizer.json, if its publisher has one")


def _normalizers(model: SentencePieceModel, words: Sequence[str]) -> list[JsonObject]:
    """`words` are the user-defined pieces, which `tokenizers` normalizes too, and to which no space may be added."""
    steps: list[JsonObject] = []
    if model.charsmap:
        table = base64.b64encode(model.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": table})
    if model.remove_extra_spaces:
        steps.append({"type": "Replace", "pattern": {"Regex": rf"\A +|[ {SPACE}]+\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if model.dummy_prefix and words:
        pattern = rf"\A(?!(?:{'|'.join(map(re.escape, words))})\z)(?=[\s\S])"
        steps.append({"type": "Replace", "pattern": {"Regex": pattern}, "content": SPACE})
    elif model.dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    return steps


def _decoders(model: SentencePieceModel) -> list[JsonObject]:
    steps: list[JsonObject] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    if model.byte_fallback:
        steps.append({"type": "ByteFallback"})
    steps.append({"type": "Fuse"})
    if model.dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return steps


def _unigram(model: SentencePieceModel) -> JsonObject:
    best = max((piece.score for piece in model.pieces if piece.kind == NORMAL), default=0.0)
    vocabulary = []
    for piece in model.pieces:
        score = piece.score
        if piece.kind == USER_DEFINED:  # sentencepiece's formula: always better than its parts
            score = len(piece.piece) * best - 0.1
        elif piece.kind == BYTE:
            score = NEVER
        vocabulary.append([piece.piece, score])
    return {
        "type": "Unigram",
        "unk_id": model.ids["unk"],
        "vocab": vocabulary,
        "byte_fallback": model.byte_fallback,
    }


def _bpe(model: SentencePieceModel) -> JsonObject:
    scores = {piece.piece: piece.score for piece in model.pieces if piece.kind == NORMAL}
    merges = [
        (-score, -cut, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.control("unk"),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.piece: i for i, piece in enumerate(model.pieces)},
        "merges": [[left, right] for _, _, left, right in sorted(merges, key=lambda merge: merge[:2])],
    }
