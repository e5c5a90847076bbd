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
from parakit.common.files import JsonObject, read_json
from parakit.tokens.importers import marian
from parakit.tokens.importers.fairseq import AROUND, language_code, renumber, templates
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
    ("vocab.json", "sentencepiece.bpe.model"): "M2M100Tokenizer",
    ("sentencepiece.bpe.model",): "XLMRobertaTokenizer",
    ("spm.model",): "DebertaV2Tokenizer",
    ("spiece.model",): "T5Tokenizer",
    ("tokenizer.model",): "LlamaTokenizer",
    ("vocab.txt",): "BertTokenizer",
    ("vocab.json", "merges.txt"): "GPT2Tokenizer",
}
# Where tokenizer_config.json names no class: that of the model, by `model_type` of config.json.
_CLASS_OF_MODEL = {
    "mbart": "MBartTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "m2m_100": "NllbTokenizer",
    "pegasus": "PegasusTokenizer",
    "gemma": "GemmaTokenizer",
    "gemma2": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "mpnet": "MPNetTokenizer",
    "clip": "CLIPTokenizer",
    "clip_text_model": "CLIPTokenizer",
    "openai-gpt": "OpenAIGPTTokenizer",
    "roberta": "RobertaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}
_SENTENCEPIECE_CLASSES = {"T5Tokenizer", "LlamaTokenizer", "GemmaTokenizer", *AROUND}
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
    if tokenizer_class(settings) in _UNNAMED:
        is_m2m100 = names == ("vocab.json", "sentencepiece.bpe.model")  # its config.json is NLLB's
        known = None if is_m2m100 else _CLASS_OF_MODEL.get(_model_type(folder))
        if known is not None or names != ("vocab.json", "merges.txt"):
            settings = {**settings, "tokenizer_class": known or LAYOUTS[names]}
    target = None
    if names == marian.FILES:
        converted, target = marian.marian_jsons(folder, settings)
    elif names == ("vocab.txt",):
        converted = wordpiece_json(folder, settings)
    elif names == ("vocab.json", "merges.txt"):
        converted, settings = convert_byte_bpe(folder, settings)
        if converted.get("post_processor") is None:
            known = converted["model"]["vocab"] | {t["content"]: t["id"] for t in converted["added_tokens"]}
            strings = read_special_tokens(settings, known).strings
            kind = tokenizer_class(settings)
            converted["post_processor"] = _post_processor(kind, strings, known, settings)
    else:
        converted = _sentencepiece(folder, names[-1], settings)
    text = json.dumps(converted, ensure_ascii=False)
    return text, None if target is None else json.dumps(target, ensure_ascii=False), settings


def _model_type(folder: Path) -> str:
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    return str(config.get("model_type")) if isinstance(config, dict) else ""


def _sentencepiece(folder: Path, name: str, settings: Mapping[str, Any]) -> JsonObject:
    """A sentencepiece model with the numbering and the tokens of its family."""
    path, kind = folder / name, tokenizer_class(settings)
    if kind not in _SENTENCEPIECE_CLASSES:
        raise UserError(
            f"{path}: belongs to a {kind}, whose numbering of the pieces is unknown",
            f"use the model's tokenizer.json, if its publisher has one; supported without one: "
            f"{', '.join(sorted(_SENTENCEPIECE_CLASSES))}",
        )
    model = read_sentencepiece(path)
    if kind in AROUND:
        model = renumber(model, kind, folder, settings)
    converted = sentencepiece_json(model, str(path))
    if kind == "DebertaV2Tokenizer":
        _adapt_deberta(converted, settings, path)
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
    """T5 appends EOS to each text, Llama and Gemma prepend BOS; settings decide first, and of GPT-2's kind (OPT) alone."""
    defaults = {"bos": kind in ("LlamaTokenizer", "GemmaTokenizer"), "eos": kind == "T5Tokenizer"}
    wanted = {name: settings.get(f"add_{name}_token", default) for name, default in defaults.items()}
    bos, eos = (strings.get(name) if wanted[name] else None for name in ("bos", "eos"))
    if kind in AROUND:
        code = language_code(kind, settings)
        purposes = dict(strings) | ({} if code is None else {"language": code})
        single, pair = (
            " ".join(_named(word, purposes) for word in one.split()) for one in templates(kind, settings)
        )
        return template_processing(single, pair, known)
    if bos is None and eos is None:
        return None
    second = 0 if kind == "T5Tokenizer" else 1

    def around(name: str, token_type: int) -> str:
        return " ".join(f"{word}:{token_type}" for word in (bos, name, eos) if word is not None)

    return template_processing(around("A", 0), f"{around('A', 0)} {around('B', second)}", known)


def _named(word: str, purposes: Mapping[str, str]) -> str:
    name, _, token_type = word.partition(":")
    return f"{purposes.get(name, name)}:{token_type}"


def _adapt_deberta(converted: JsonObject, settings: Mapping[str, Any], path: Path) -> None:
    if settings.get("split_by_punct"):
        raise UserError(
            f"{path}: split_by_punct is on, by which DeBERTa's punctuation is cut off before sentencepiece",
            "use the model's tokenizer.json, if its publisher has one",
        )
    if settings.get("do_lower_case"):
        converted["normalizer"]["normalizers"].insert(0, {"type": "Lowercase"})
