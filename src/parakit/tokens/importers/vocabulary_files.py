"""Conversion of plain vocabulary files: BERT's vocab.txt, and GPT-2's vocab.json with merges.txt.

Each becomes a tokenizer.json that normalizes, splits and adds special tokens as the tokenizer class of the folder does.
Several families use the same files, so an unknown class is refused rather than guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject
from parakit.tokens.importers.special_strings import read_special_tokens, tokenizer_class
from parakit.tokens.importers.tokenizer_json import (
    ADDED_FLAGS,
    added_token,
    base_json,
    byte_bpe_json,
    suffix_decoder,
    template_processing,
)
from parakit.tokens.tokenizer.fast_encoding import PATTERNS

MAX_BYTES, MAX_TOKENS = 100_000_000, 1_000_000
_WORDPIECE_CLASSES = {None, "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"}
_SUFFIX_CLASSES = {"CLIPTokenizer", "OpenAIGPTTokenizer"}
_GPT2_CLASSES = {
    None,
    "GPT2Tokenizer",
    "RobertaTokenizer",
    "BartTokenizer",
    "Qwen2Tokenizer",
    *_SUFFIX_CLASSES,
}
_SUFFIX = "</w>"
_CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def wordpiece_json(folder: Path, settings: Mapping[str, Any]) -> JsonObject:
    """The tokenizer.json of a folder with a vocab.txt: a token a line, its id the line's number."""
    path = folder / "vocab.txt"
    _check_class(path, settings, _WORDPIECE_CLASSES)
    if settings.get("do_basic_tokenize") is False:
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: do_basic_tokenize is off, so text would have to be split into words already",
            "use a model that splits text itself",
        )
    text = read_vocabulary_text(path)
    if (n_lines := text.count("\n")) > MAX_TOKENS:
        raise UserError(f"{path}: has {n_lines} lines; {MAX_TOKENS} tokens are the limit", "fetch it again")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    tokens = lines if lines[-1] else lines[:-1]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    strings = read_special_tokens(settings, vocabulary).strings
    _require(strings, ("unk", "cls", "sep"), path)
    cls, sep = strings["cls"], strings["sep"]
    is_mpnet = tokenizer_class(settings) == "MPNetTokenizer"
    pair = f"{sep}:0 {sep}:0 B:0 {sep}:0" if is_mpnet else f"{sep}:0 B:1 {sep}:1"
    return {
        **base_json(_named_tokens(strings, vocabulary, is_mpnet)),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": _setting(settings, "tokenize_chinese_chars", True),
            "strip_accents": _setting(settings, "strip_accents", None),
            "lowercase": _setting(settings, "do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template_processing(f"{cls}:0 A:0 {sep}:0", f"{cls}:0 A:0 {pair}", vocabulary),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": strings["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }


def convert_byte_bpe(folder: Path, settings: Mapping[str, Any]) -> tuple[JsonObject, Mapping[str, Any]]:
    """The tokenizer.json of a folder with vocab.json and merges.txt, and the settings with the class filled in."""
    path = folder / "vocab.json"
    _check_class(path, settings, _GPT2_CLASSES)
    vocabulary = read_vocabulary_json(path)
    lines = read_vocabulary_text(folder / "merges.txt").split("\n")
    lines = lines[1:] if lines[0].startswith("#version") else lines
    merges = [line.split(" ") for line in lines if line.strip()]
    if bad := next((merge for merge in merges if len(merge) != 2 or "".join(merge) not in vocabulary), None):
        raise CorruptArtifact(
            f"{folder / 'merges.txt'}: {' '.join(bad)!r} is no merge of two tokens into a third of vocab.json",
            "the files belong to different tokenizers, or are damaged: fetch them again",
        )
    kind = tokenizer_class(settings)
    if kind not in _GPT2_CLASSES - {None}:
        kind = _guess_class(vocabulary)
        settings = {**settings, "tokenizer_class": kind}
    added = folder_added_tokens(folder, settings)
    known = vocabulary | {token["content"]: token["id"] for token in added}
    strings = read_special_tokens(settings, known).strings
    named = _named_tokens(strings, known, kind in ("RobertaTokenizer", "BartTokenizer"))
    by_id = {token["id"]: token for token in [*named, *added]}
    tokens = [by_id[token_id] for token_id in sorted(by_id)]
    if kind in _SUFFIX_CLASSES:
        return _suffix_bpe_json(kind, vocabulary, merges, tokens), settings
    pattern = PATTERNS["one_digit" if kind == "Qwen2Tokenizer" else "gpt2"]
    converted = byte_bpe_json(vocabulary, merges, pattern, tokens)
    if kind == "Qwen2Tokenizer":
        converted["normalizer"] = {"type": "NFC"}
    elif kind != "GPT2Tokenizer":
        _require(strings, ("cls", "sep"), path)
        converted["post_processor"] = {
            "type": "RobertaProcessing",
            "sep": [strings["sep"], known[strings["sep"]]],
            "cls": [strings["cls"], known[strings["cls"]]],
            "trim_offsets": True,
            "add_prefix_space": _setting(settings, "add_prefix_space", False),
        }
    byte_level = converted["pre_tokenizer"]["pretokenizers"][-1]
    if _setting(settings, "add_prefix_space", False):
        converted["pre_tokenizer"] = byte_level | {"add_prefix_space": True, "use_regex": True}
    return converted, settings


def _guess_class(vocabulary: Mapping[str, int]) -> str:
    """The tokenizer class of a vocab.json, by its special tokens."""
    if f"a{_SUFFIX}" in vocabulary:
        return "CLIPTokenizer" if "<|startoftext|>" in vocabulary else "OpenAIGPTTokenizer"
    return "BartTokenizer" if {"<s>", "</s>", "<mask>"} <= vocabulary.keys() else "GPT2Tokenizer"


def _named_tokens(
    strings: Mapping[str, str], known: Mapping[str, int], mask_takes_space: bool
) -> list[JsonObject]:
    """The special tokens, each once; RoBERTa's MASK includes the space before it."""
    mask = strings.get("mask") if mask_takes_space else None
    return [
        added_token(known[string], string, lstrip=string == mask)
        for string in dict.fromkeys(strings.values())
    ]


def _suffix_bpe_json(
    kind: str, vocabulary: Mapping[str, int], merges: list[list[str]], added: list[JsonObject]
) -> JsonObject:
    """The tokenizer.json of a lower-casing BPE with a suffix at each word's end: CLIP's, of bytes, with BOS and EOS around
    a text, or OpenAI GPT's, of characters, which splits as BERT.
    """
    start, end = "<|startoftext|>", "<|endoftext|>"
    unk = end if kind == "CLIPTokenizer" else "<unk>"
    if missing := [string for string in ({start, end} if unk == end else {unk}) if string not in vocabulary]:
        raise CorruptArtifact(f"vocab.json: has no {missing[0]}, as that of a {kind} does", "fetch it again")
    model = {"type": "BPE", "vocab": dict(vocabulary), "merges": merges, "unk_token": unk}
    converted = base_json(added) | {"model": model | {"end_of_word_suffix": _SUFFIX}}
    if kind == "OpenAIGPTTokenizer":
        folding = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
        return converted | {
            "normalizer": {"type": "BertNormalizer", **folding},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "BPEDecoder", "suffix": _SUFFIX},
        }
    space = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    split = {
        "type": "Split",
        "pattern": {"Regex": _CLIP_PATTERN},
        "behavior": "Removed",
        "invert": True,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return converted | {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, space, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [end, vocabulary[end]],
            "cls": [start, vocabulary[start]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": suffix_decoder(_SUFFIX),
    }


def folder_added_tokens(folder: Path, settings: Mapping[str, Any]) -> list[JsonObject]:
    """Tokens outside the vocabulary: `added_tokens_decoder`, else added_tokens.json."""
    listed = settings.get("added_tokens_decoder")
    if isinstance(listed, dict) and listed:
        try:
            return [
                added_token(int(token_id), token["content"])
                | {name: bool(token[name]) for name in ADDED_FLAGS if name in token}
                for token_id, token in sorted(listed.items(), key=lambda item: int(item[0]))
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CorruptArtifact(
                f"{folder / 'tokenizer_config.json'}: added_tokens_decoder does not map ids to tokens",
                "fetch the file again",
            ) from None
    path = folder / "added_tokens.json"
    if not path.is_file():
        return []
    numbers = sorted(read_vocabulary_json(path).items(), key=lambda item: item[1])
    return [added_token(token_id, string) for string, token_id in numbers]


def read_vocabulary_json(path: Path) -> dict[str, int]:
    """A JSON mapping of tokens to distinct ids."""
    try:
        vocabulary = json.loads(read_vocabulary_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise CorruptArtifact(f"{path}: not readable as JSON: {error}", "fetch the file again") from None
    if (
        not isinstance(vocabulary, dict)
        or not vocabulary
        or not all(type(i) is int and 0 <= i < 2**31 for i in vocabulary.values())
        or len(set(vocabulary.values())) != len(vocabulary)
    ):
        raise CorruptArtifact(f"{path}: does not map tokens to distinct ids", "fetch the file again")
    return vocabulary


def read_vocabulary_text(path: Path) -> str:
    """A UTF-8 file of a bounded size."""
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise CorruptArtifact(
            f"{path}: has {size} bytes; a vocabulary has 1 to {MAX_BYTES}", "fetch it again"
        )
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptArtifact(f"{path}: is not UTF-8: {error}", "fetch the file again") from None


def _check_class(path: Path, settings: Mapping[str, Any], known: set[str | None]) -> None:
    kind = tokenizer_class(settings)
    if kind not in known and kind not in ("PreTrainedTokenizer", "TokenizersBackend"):
        names = ", ".join(sorted(name for name in known if name))
        raise UserError(
            f"{path}: belongs to a {kind}, whose way of splitting text is unknown",
            f"use the model's tokenizer.json, if its publisher has one; supported without one: {names}",
        )


def _require(strings: Mapping[str, str], purposes: tuple[str, ...], path: Path) -> None:
    if missing := [purpose for purpose in purposes if purpose not in strings]:
        raise CorruptArtifact(
            f"{path}: has no {missing[0].upper()} token, which its tokenizer class needs",
            "fetch the folder again: special_tokens_map.json names the token",
        )


def _setting(settings: Mapping[str, Any], name: str, default: bool | None) -> bool | None:
    value = settings.get(name, default)
    if value is not None and not isinstance(value, bool):
        raise CorruptArtifact(
            f"tokenizer_config.json: {name} is {value!r}, not true or false", "fetch it again"
        )
    return default if value is None else value
