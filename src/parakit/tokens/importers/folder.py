"""Conversion of a model folder without a tokenizer.json: the files of its tokenizer become one.

The files present determine the kind of tokenizer, and the class in tokenizer_config.json confirms or contradicts it.
The result is an ordinary `Tokenizer`; saved, it is a tokenizer.json that every engine reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject
from parakit.tokens.importers import marian
from parakit.tokens.importers.sentencepiece_model import read_sentencepiece
from parakit.tokens.importers.sentencepiece_tokenizer import sentencepiece_json
from parakit.tokens.importers.special_strings import read_special_tokens, tokenizer_class
from parakit.tokens.importers.tokenizer_json import added_token, template_processing
from parakit.tokens.importers.vocabulary_files import (
    convert_byte_bpe,
    folder_added_tokens,
    wordpiece_json,
)
from parakit.tokens.tokenizer.special_tokens import SENTINEL

# The files of a tokenizer -> its class when the folder names none.
LAYOUTS: dict[tuple[str, ...], str] = {
    marian.FILES: "MarianTokenizer",
    ("spiece.model",): "T5Tokenizer",
    ("tokenizer.model",): "LlamaTokenizer",
    ("vocab.txt",): "BertTokenizer",
    ("vocab.json", "merges.txt"): "GPT2Tokenizer",
}
_SENTENCEPIECE_CLASSES = {"T5Tokenizer", "LlamaTokenizer"}
_T5_SENTINELS, _MAX_SENTINELS = 100, 1000
_UNNAMED = (None, "PreTrainedTokenizer", "TokenizersBackend")


def find_layout(folder: Path) -> tuple[str, ...] | None:
    """The tokenizer files in `folder` other than tokenizer.json; None where there are none."""
    return next((names for names in LAYOUTS if all((folder / name).is_file() for name in names)), None)


def convert_tokenizer(folder: Path, settings: Mapping[str, Any]) -> tuple[str, str | None, Mapping[str, Any]]:
    """The tokenizer.json made from the files of `folder`, that of the target side where a translator has two, and the
    settings with the class filled in. `settings` is tokenizer_config.json.

    Raises `UserError` where the tokenizer cannot be represented, `CorruptArtifact` naming a damaged file.
    """
    names = find_layout(folder)
    assert names is not None, "has_tokenizer was not checked"
    if tokenizer_class(settings) in _UNNAMED and names != ("vocab.json", "merges.txt"):
        settings = {**settings, "tokenizer_class": LAYOUTS[names]}
    target = None
    if names == marian.FILES:
        converted, target = marian.marian_jsons(folder, settings)
    elif names == ("vocab.txt",):
        converted = wordpiece_json(folder, settings)
    elif names == ("vocab.json", "merges.txt"):
        converted, settings = convert_byte_bpe(folder, settings)
    else:
        converted = _sentencepiece(folder, names[0], settings)
    text = json.dumps(converted, ensure_ascii=False)
    return text, None if target is None else json.dumps(target, ensure_ascii=False), settings


def _sentencepiece(folder: Path, name: str, settings: Mapping[str, Any]) -> JsonObject:
    """T5's spiece.model, or Llama's tokenizer.model, with the tokens that each family adds."""
    path, kind = folder / name, tokenizer_class(settings)
    if kind not in _SENTENCEPIECE_CLASSES:
        raise UserError(
            f"{path}: belongs to a {kind}, whose numbering of the pieces is unknown",
            f"use the model's tokenizer.json, if its publisher has one; supported without one: "
            f"{', '.join(sorted(_SENTENCEPIECE_CLASSES))}",
        )
    model = read_sentencepiece(path)
    converted = sentencepiece_json(model, str(path))
    known = {piece.piece: i for i, piece in enumerate(model.pieces)}
    tokens = {token["id"]: token for token in converted["added_tokens"]}
    for token in folder_added_tokens(folder, settings):
        i, string = token["id"], token["content"]
        if known.setdefault(string, i) != i or (i < len(model.pieces) and model.pieces[i].piece != string):
            raise UserError(
                f"{folder}: the added token {string!r} has id {i}, which is another token in {path.name}",
                "the files belong to different tokenizers: use the model's tokenizer.json",
            )
        tokens[i] = token
    if kind == "T5Tokenizer" and SENTINEL.format(0) not in known:
        n = settings.get("extra_ids", _T5_SENTINELS)
        if not isinstance(n, int) or not 0 <= n <= _MAX_SENTINELS:
            raise CorruptArtifact(f"{folder / 'tokenizer_config.json'}: extra_ids is {n!r}", "fetch it again")
        for i in range(n):  # the last sentinel comes first
            tokens[len(known)] = added_token(len(known), SENTINEL.format(n - 1 - i))
            known[SENTINEL.format(n - 1 - i)] = len(known)
    converted["added_tokens"] = [tokens[i] for i in sorted(tokens)]
    strings = read_special_tokens(settings, known).strings
    converted["post_processor"] = _post_processor(kind, strings, known, settings)
    return converted


def _post_processor(
    kind: str | None, strings: Mapping[str, str], known: Mapping[str, int], settings: Mapping[str, Any]
) -> JsonObject | None:
    """T5 appends EOS to each text; Llama prepends BOS, and appends EOS where its settings enable it."""
    defaults = {"bos": kind == "LlamaTokenizer", "eos": kind == "T5Tokenizer"}
    wanted = {name: settings.get(f"add_{name}_token", default) for name, default in defaults.items()}
    bos, eos = (strings.get(name) if wanted[name] else None for name in ("bos", "eos"))
    if bos is None and eos is None:
        return None
    second = 1 if kind == "LlamaTokenizer" else 0

    def around(name: str, token_type: int) -> str:
        return " ".join(f"{word}:{token_type}" for word in (bos, name, eos) if word is not None)

    return template_processing(around("A", 0), f"{around('A', 0)} {around('B', second)}", known)
