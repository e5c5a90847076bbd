"""The special tokens around a text, or a pair of texts.

BERT's `[CLS] a [SEP] b [SEP]`, T5's `a </s>`, BART's `<s> a </s></s> b </s>`: a published tokenizer defines them in the
post-processor of its tokenizer.json, which transformers runs and which is read here as data. Parakit's own tokenizers
suit every model family, so the family decides: encoders read CLS a SEP b SEP, encoder-decoders a EOS, decoders BOS a;
`with_special_tokens_template` writes the same into the tokenizer.json of a model folder. As in transformers, `add_bos_token`
and `add_eos_token` of tokenizer_config.json count only where a folder has no tokenizer.json: see `importers.folder`. The
EOS of a target or of a decoder's document is added elsewhere: see `shards`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Family
from parakit.tokens.importers.tokenizer_json import template_processing
from parakit.tokens.tokenizer.tokenizer import Tokenizer

# Of Parakit's own tokenizers: purposes, with A and B for the texts, each with its token type.
_TEMPLATES: dict[str, tuple[str, str]] = {
    "decoder": ("bos:0 A:0", "bos:0 A:0 bos:0 B:0"),
    "encoder": ("cls:0 A:0 sep:0", "cls:0 A:0 sep:0 B:1 sep:1"),
    "encoder-decoder": ("A:0 eos:0", "A:0 eos:0 B:0 eos:0"),
}
_Parts = list[tuple[str | list[int], int]]  # "A", "B" or ids; their token type


@dataclass(frozen=True)
class EncodedText:
    """Ids with special tokens, and the token type of each (BERT: which text it belongs to)."""

    token_ids: list[int]
    token_type_ids: list[int]


def add_special_tokens(
    tokenizer: Tokenizer,
    first: Sequence[int],
    second: Sequence[int] | None = None,
    family: Family = "encoder",
) -> EncodedText:
    """The ids of one text, or of two, with the special tokens that the model expects; equal to those of transformers.
    `family` matters only for Parakit's own tokenizers.
    """
    token_ids: list[int] = []
    token_type_ids: list[int] = []
    for part, token_type in _parts(tokenizer, second is not None, family):
        ids = (first if part == "A" else second or ()) if isinstance(part, str) else part
        token_ids.extend(ids)
        token_type_ids.extend([token_type] * len(ids))
    return EncodedText(token_ids, token_type_ids)


def text_boundaries(tokenizer: Tokenizer, family: Family = "decoder") -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a plain text, and nothing else: Llama's BOS, nothing for GPT-2,
    Qwen2 and SmolLM2. Every program that reads a plain text with a model takes them from here.
    """
    before, after = special_tokens_template(tokenizer, family, 1).parts
    return list(before), list(after)


def with_special_tokens_template(tokenizer: Tokenizer, family: Family) -> Tokenizer:
    """Parakit's own tokenizer with the post-processor of `family` in its tokenizer.json; a published one unchanged."""
    if not tokenizer.special.is_parakit_default:
        return tokenizer
    strings = tokenizer.special.strings
    ids = {string: _existing(tokenizer.token_id(string)) for string in strings.values()}
    single, pair = (_with_strings(words, strings) for words in _TEMPLATES[family])
    processor = template_processing(single, pair, ids)
    if tokenizer.parsed_json.get("post_processor") == processor:
        return tokenizer
    text = json.dumps(tokenizer.parsed_json | {"post_processor": processor}, ensure_ascii=False, indent=2)
    return Tokenizer(text, kind=tokenizer.kind, special=tokenizer.special, **tokenizer.chat_settings)


def _with_strings(words: str, strings: Mapping[str, str]) -> str:
    """A template of purposes as one of special token strings."""
    parts = [word.partition(":") for word in words.split()]
    return " ".join(f"{strings.get(name, name)}:{token_type}" for name, _, token_type in parts)


def _parts(tokenizer: Tokenizer, is_pair: bool, family: Family) -> _Parts:
    if tokenizer.special.is_parakit_default:
        strings, words = (
            tokenizer.special.strings,
            [word.split(":") for word in _TEMPLATES[family][is_pair].split()],
        )
        return [
            (name if name in "AB" else [_existing(tokenizer.token_id(strings[name]))], int(token_type))
            for name, token_type in words
        ]
    return _read_processor(tokenizer.parsed_json.get("post_processor"), is_pair)


def _existing(token_id: int | None) -> int:
    assert token_id is not None
    return token_id


def _read_processor(processor: JsonObject | None, is_pair: bool) -> _Parts:
    """The special tokens that a post-processor of tokenizer.json adds to one text or two."""
    steps = _flat(processor)
    if not steps:
        return [("A", 0), ("B", 1)] if is_pair else [("A", 0)]
    if len(steps) > 1:
        raise UserError(
            f"tokenizer.json adds special tokens to a text {len(steps)} times, by nested post-processors",
            "keep one of them",
        )
    step = steps[0]
    if step["type"] == "TemplateProcessing":
        ids = {string: token["ids"] for string, token in step["special_tokens"].items()}
        return [_part(piece, ids) for piece in step["pair" if is_pair else "single"]]
    cls, sep = [step["cls"][1]], [step["sep"][1]]
    single: _Parts = [(cls, 0), ("A", 0), (sep, 0)]
    if step["type"] == "BertProcessing":
        return [*single, ("B", 1), (sep, 1)] if is_pair else single
    return [*single, (sep, 0), ("B", 0), (sep, 0)] if is_pair else single


def _part(piece: JsonObject, ids: dict[str, list[int]]) -> tuple[str | list[int], int]:
    if "Sequence" in piece:
        return piece["Sequence"]["id"], piece["Sequence"]["type_id"]
    return ids[piece["SpecialToken"]["id"]], piece["SpecialToken"]["type_id"]


def _flat(processor: JsonObject | None) -> list[JsonObject]:
    """The post-processors that add tokens."""
    if processor is None or processor["type"] == "ByteLevel":
        return []
    if processor["type"] == "Sequence":
        return [step for inner in processor["processors"] for step in _flat(inner)]
    return [processor]


_FIRST, _SECOND = -1, -2  # placeholders of the texts


@dataclass(frozen=True)
class SpecialTokensTemplate:
    """The ids around one text or two, with a token type for each id and for each text."""

    parts: tuple[
        tuple[int, ...], ...
    ]  # before the first text, after it (and before the second), after the second
    part_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.parts))

    @property
    def has_types(self) -> bool:
        """Whether any token type is not 0."""
        return any(self.text_types) or any(map(any, self.part_types))

    def apply(self, *texts: np.ndarray) -> np.ndarray:
        """The ids of one text, or of two, with the special tokens."""
        pieces = [np.array(self.parts[0], np.int64)]
        for text, part in zip(texts, self.parts[1:], strict=True):
            pieces += [np.asarray(text, np.int64), np.array(part, np.int64)]
        return np.concatenate(pieces)

    def types(self, *lengths: int) -> np.ndarray:
        """Token types of texts of these lengths with the special tokens."""
        pieces = [np.array(self.part_types[0], np.int64)]
        for length, text_type, part in zip(lengths, self.text_types, self.part_types[1:], strict=True):
            pieces += [np.full(length, text_type, np.int64), np.array(part, np.int64)]
        return np.concatenate(pieces)

    def with_parts(self, *parts: tuple[int, ...]) -> SpecialTokensTemplate:
        """The same with other special tokens, each of its part's token type."""
        types = [(part_types or (0,))[0] for part_types in self.part_types]
        part_types = tuple((kind,) * len(part) for kind, part in zip(types, parts, strict=True))
        return SpecialTokensTemplate(parts, part_types, self.text_types)

    def to_dict(self) -> JsonObject:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: JsonObject) -> SpecialTokensTemplate:
        """Inverse of `to_dict`, through JSON."""
        parts, part_types = (tuple(map(tuple, values[name])) for name in ("parts", "part_types"))
        return cls(parts, part_types, tuple(values["text_types"]))


def special_tokens_template(tokenizer: Tokenizer, family: Family, n_texts: int) -> SpecialTokensTemplate:
    """The template of one text, or of two, for models of `family` with this tokenizer; `UserError` where its
    post-processor changes the order of the texts.
    """
    placeholders = (_FIRST, _SECOND)[:n_texts]
    encoded = add_special_tokens(tokenizer, [_FIRST], [_SECOND] if n_texts == 2 else None, family)
    positions = [i for i, token_id in enumerate(encoded.token_ids) if token_id in placeholders]
    if [encoded.token_ids[i] for i in positions] != list(placeholders):
        raise UserError(
            "this tokenizer's post-processor does not keep the order of its texts",
            "give it a template such as `[CLS] $A [SEP] $B [SEP]`",
        )
    edges = [
        (begin, end) for begin, end in zip([0, *(i + 1 for i in positions)], [*positions, None], strict=True)
    ]
    return SpecialTokensTemplate(
        tuple(tuple(encoded.token_ids[begin:end]) for begin, end in edges),
        tuple(tuple(encoded.token_type_ids[begin:end]) for begin, end in edges),
        tuple(encoded.token_type_ids[i] for i in positions),
    )


def truncate_pair(lengths: Sequence[int], limit: int) -> list[int]:
    """Lengths of one text or two after truncation to `limit` tokens in all: the longer is truncated first; where both
    are, the longer keeps the odd token, and the second of equals (as in `tokenizers`).
    """
    if sum(lengths) <= limit:
        return list(lengths)
    if len(lengths) == 1:
        return [limit]
    shorter = min(*lengths, limit // 2)
    return [limit - shorter, shorter] if lengths[0] > lengths[1] else [shorter, limit - shorter]
