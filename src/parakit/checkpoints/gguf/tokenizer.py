"""The tokenizer in a GGUF file's metadata as the files of a Hugging Face folder.

Two kinds are converted: `gpt2`, byte-level BPE with merges, and `llama`, sentencepiece BPE, whose merges follow from the
scores. A token's type says whether it is text, a control token or padding of the vocabulary. What the original tokenizer
had and GGUF does not record (normalizers, flags of added tokens) follows from the name of its splitting, or is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from parakit.checkpoints.gguf.pre_tokenizers import DEFAULT, NORMALIZER, Splitting, splitting
from parakit.checkpoints.gguf.reader import GGUFFile
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject
from parakit.tokens.importers.sentencepiece_model import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePiece,
    SentencePieceModel,
    check_pieces,
)
from parakit.tokens.importers.sentencepiece_tokenizer import sentencepiece_json
from parakit.tokens.importers.tokenizer_json import added_token, base_json, template_processing

ValueT = TypeVar("ValueT", str, bool)
PREFIX = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"
_HINT = "the file is damaged: fetch it again"
# purpose -> key of its id; llama.cpp's own spelling
IDS: dict[str, str] = {
    **{name: f"{name}_token_id" for name in ("bos", "eos", "mask", "cls")},
    **{"unk": "unknown_token_id", "pad": "padding_token_id", "sep": "seperator_token_id"},
}
STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")
_SPM_IDS = {"unk": 0, "bos": 1, "eos": 2}  # of `llama` tokenizers, where the file does not say so
_READ = {
    *(*IDS.values(), *STOPS, "model", "pre", "tokens", "token_type", "scores", "merges", "add_bos_token"),
    *("add_eos_token", "add_space_prefix", "remove_extra_whitespaces"),
}


@dataclass(frozen=True)
class ConvertedTokenizer:
    """The content of tokenizer.json and tokenizer_config.json, the chat template, the ids that begin and end a text (as
    generation_config.json has them), and the names of metadata that have no place in these files.
    """

    tokenizer: JsonObject
    settings: JsonObject
    chat_template: str | None
    generation: JsonObject
    dropped: tuple[str, ...]


def convert_tokenizer(file: GGUFFile, max_seq_len: int) -> ConvertedTokenizer:
    """The tokenizer of a file. Raises `UserError` for a kind that is not supported, `CorruptArtifact` for contents that
    contradict each other.
    """
    metadata = file.metadata
    kind, where = metadata.get(f"{PREFIX}model"), str(file.path)
    if kind not in ("gpt2", "llama"):
        what = (
            "holds no tokenizer"
            if kind in (None, "none", "no_vocab")
            else f"has a tokenizer of kind {kind!r}"
        )
        raise UserError(
            f"{where}: {what}",
            "tokenizers of the kinds gpt2 and llama are converted: import the model's original folder",
        )
    tokens, types = _vocabulary(file)
    ids = _special_ids(file, kind, len(tokens))
    if kind == "gpt2":
        split = splitting(_value(file, "pre", DEFAULT), where)
        tokenizer, add_bos = _byte_bpe(file, tokens, types, split), split.add_bos
    else:
        tokenizer, add_bos = _sentencepiece(file, tokens, types, ids), True
    named = {purpose: tokens[token_id] for purpose, token_id in ids.items()}
    _add_special_tokens(tokenizer, named, ids)
    bos = named.get("bos") if _value(file, "add_bos_token", add_bos) else None
    eos = named.get("eos") if _value(file, "add_eos_token", False) else None
    if bos or eos:
        tokenizer["post_processor"] = _around(bos, eos, {tokens[i]: i for i in ids.values()})
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_seq_len,
        "clean_up_tokenization_spaces": False,
        **{f"{purpose}_token": string for purpose, string in named.items()},
    }
    template = metadata.get(TEMPLATE)
    return ConvertedTokenizer(
        tokenizer,
        settings,
        template if isinstance(template, str) else None,
        _generation(file, ids, len(tokens)),
        _dropped(metadata),
    )


def _vocabulary(file: GGUFFile) -> tuple[list[str], list[int]]:
    """Every token and its type, which is text where the file names none."""
    tokens = _list(file, "tokens", str)
    types = (
        _list(file, "token_type", int) if f"{PREFIX}token_type" in file.metadata else [NORMAL] * len(tokens)
    )
    if len(types) != len(tokens) or not tokens:
        raise CorruptArtifact(f"{file.path}: has {len(tokens)} tokens and {len(types)} token types", _HINT)
    if len(set(tokens)) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if token in tokens[:i])
        raise CorruptArtifact(f"{file.path}: has the token {twice!r} twice", _HINT)
    if bad := next((i for i, kind in enumerate(types) if not NORMAL <= kind <= BYTE), None):
        raise CorruptArtifact(
            f"{file.path}: token {tokens[bad]!r} has the type {types[bad]}, not 1 to 6", _HINT
        )
    return tokens, types


def _list(file: GGUFFile, key: str, kind: type) -> list[Any]:
    values = file.metadata.get(f"{PREFIX}{key}")
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise CorruptArtifact(f"{file.path}: `{PREFIX}{key}` is no list of {kind.__name__} values", _HINT)
    return values


def _value(file: GGUFFile, key: str, default: ValueT) -> ValueT:
    """A string or a flag, of the default's type."""
    value = file.metadata.get(f"{PREFIX}{key}", default)
    if type(value) is not type(default):
        raise CorruptArtifact(
            f"{file.path}: `{PREFIX}{key}` is {value!r}, not a {type(default).__name__}", _HINT
        )
    return value


def _special_ids(file: GGUFFile, kind: str, n_tokens: int) -> dict[str, int]:
    """Ids by purpose. UNK of a byte-level tokenizer never occurs, and is left out."""
    ids: dict[str, int] = {}
    for purpose, key in IDS.items():
        default = _SPM_IDS.get(purpose) if kind == "llama" else None
        value = file.metadata.get(f"{PREFIX}{key}", default)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < n_tokens:
            raise CorruptArtifact(
                f"{file.path}: `{PREFIX}{key}` is {value!r}, and there are {n_tokens} tokens", _HINT
            )
        ids[purpose] = value
    return ids


def _byte_bpe(file: GGUFFile, tokens: list[str], types: list[int], split: Splitting) -> JsonObject:
    """Byte-level BPE. Unused tokens called [PAD7] only fill the embedding, and are left out."""
    normalizer = file.metadata.get(NORMALIZER, split.normalizer or "none")
    if normalizer not in ("none", "NFC"):
        raise CorruptArtifact(f"{file.path}: `{NORMALIZER}` is {normalizer!r}, not none or NFC", _HINT)
    vocabulary = {
        token: i for i, token in enumerate(tokens) if not (types[i] == UNUSED and token == f"[PAD{i}]")
    }
    merges = []
    for merge in _list(file, "merges", str):
        left, space, right = merge.partition(" ")
        if not space or not left or not right or " " in right or left + right not in vocabulary:
            raise CorruptArtifact(f"{file.path}: {merge!r} is no merge of two tokens into a third", _HINT)
        merges.append([left, right])
    added = [
        added_token(i, token, special=types[i] != USER_DEFINED)
        for i, token in enumerate(tokens)
        if types[i] in (CONTROL, UNKNOWN, USER_DEFINED)
    ]
    return {
        **base_json(added),
        "normalizer": None if normalizer == "none" else {"type": normalizer},
        "pre_tokenizer": split.pre_tokenizer(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": split.ignore_merges},
    }


def _sentencepiece(file: GGUFFile, tokens: list[str], types: list[int], ids: Mapping[str, int]) -> JsonObject:
    """Sentencepiece BPE. A user-defined piece, which no merge makes, becomes an added token."""
    scores = _list(file, "scores", float)
    if len(scores) != len(tokens):
        raise CorruptArtifact(f"{file.path}: has {len(tokens)} tokens and {len(scores)} scores", _HINT)
    kinds = [CONTROL if kind in (USER_DEFINED, UNUSED) else kind for kind in types]
    pieces = [SentencePiece(*piece) for piece in zip(tokens, scores, kinds, strict=True)]
    try:
        check_pieces(pieces)
    except ValueError as error:
        raise CorruptArtifact(
            f"{file.path}: not readable as a sentencepiece vocabulary: {error}", _HINT
        ) from None
    model = SentencePieceModel(
        tuple(pieces),
        "bpe",
        byte_fallback=BYTE in kinds,
        dummy_prefix=_value(file, "add_space_prefix", True),
        remove_extra_spaces=_value(file, "remove_extra_whitespaces", False),
        ids={"unk": types.index(UNKNOWN), **{name: ids.get(name, -1) for name in ("bos", "eos", "pad")}},
    )
    converted = sentencepiece_json(model, str(file.path))
    converted["added_tokens"] = [
        token | {"special": types[token["id"]] != USER_DEFINED}
        for token in converted["added_tokens"]
        if types[token["id"]] != UNUSED
    ]
    return converted


def _add_special_tokens(tokenizer: JsonObject, named: Mapping[str, str], ids: Mapping[str, int]) -> None:
    """A token with a purpose is a control token, whatever its type."""
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    for purpose, string in named.items():
        added[ids[purpose]] = added.get(ids[purpose], added_token(ids[purpose], string)) | {"special": True}
    tokenizer["added_tokens"] = [added[i] for i in sorted(added)]


def _around(bos: str | None, eos: str | None, known: Mapping[str, int]) -> JsonObject:
    def text(name: str, token_type: int) -> str:
        return " ".join(f"{word}:{token_type}" for word in (bos, name, eos) if word)

    return template_processing(text("A", 0), f"{text('A', 0)} {text('B', 1)}", known)


def _generation(file: GGUFFile, ids: Mapping[str, int], n_tokens: int) -> JsonObject:
    """BOS, PAD, and every id that ends a completion: end of text, of turn and of message."""
    stops = [file.metadata.get(f"{PREFIX}{key}") for key in STOPS]
    found = dict.fromkeys(stop for stop in stops if type(stop) is int and 0 <= stop < n_tokens)
    eos = list(found) or ([ids["eos"]] if "eos" in ids else [])
    settings: JsonObject = {f"{name}_token_id": ids[name] for name in ("bos", "pad") if name in ids}
    return settings | ({"eos_token_id": eos if len(eos) > 1 else eos[0]} if eos else {})


def _dropped(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Metadata of the tokenizer that the folder does not keep: further templates, ids of fill-in tokens."""
    known = {TEMPLATE, "tokenizer.chat_templates", *(f"{PREFIX}{key}" for key in _READ)}
    return tuple(key for key in metadata if key.startswith("tokenizer.") and key not in known)
