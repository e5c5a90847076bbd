"""How a text, or a pair of texts, stands between special tokens before a model reads it.

BERT's `[CLS] a [SEP] b [SEP]`, T5's `a </s>`, BART's `<s> a </s></s> b </s>`: a published tokenizer says so in the
post-processor of its tokenizer.json, which transformers runs and which is read here as data. Parakit's own
tokenizers serve every family, so the family decides: encoders read CLS a SEP b SEP, encoder-decoders a EOS, decoders
BOS a; `framed_for` writes the same into the tokenizer.json that goes into a model folder. A target, or a decoder's
document, which ends with EOS, is no matter of framing: see `shards`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.importers.description import frame
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Family = Literal["decoder", "encoder", "encoder-decoder"]
# Of Parakit's own tokenizers: purposes by name, A and B the texts; then the token type of each.
_OWN: dict[str, tuple[str, str]] = {
    "decoder": ("bos:0 A:0", "bos:0 A:0 bos:0 B:0"),
    "encoder": ("cls:0 A:0 sep:0", "cls:0 A:0 sep:0 B:1 sep:1"),
    "encoder-decoder": ("A:0 eos:0", "A:0 eos:0 B:0 eos:0"),
}
_Template = list[tuple[str | list[int], int]]  # "A", "B" or ids; their token type


@dataclass(frozen=True)
class EncodedText:
    """Ids as a model reads them, and for each the text it belongs to (BERT's token types)."""

    token_ids: list[int]
    token_type_ids: list[int]


def add_special_tokens(
    tokenizer: Tokenizer,
    first: Sequence[int],
    second: Sequence[int] | None = None,
    family: Family = "encoder",
) -> EncodedText:
    """The ids of one text, or of two, between the special tokens that the model expects; equal to what transformers
    makes of the same texts. `family` matters to Parakit's own tokenizers alone.
    """
    token_ids: list[int] = []
    token_type_ids: list[int] = []
    for part, token_type in _template(tokenizer, second is not None, family):
        ids = (first if part == "A" else second or ()) if isinstance(part, str) else part
        token_ids.extend(ids)
        token_type_ids.extend([token_type] * len(ids))
    return EncodedText(token_ids, token_type_ids)


def with_special_tokens_template(tokenizer: Tokenizer, family: Family) -> Tokenizer:
    """A tokenizer of Parakit's own whose tokenizer.json frames texts as `family` does; a published one as it is."""
    if not tokenizer.special.is_parakit_default:
        return tokenizer
    forms = tokenizer.special.strings
    ids = {form: _known(tokenizer.token_id(form)) for form in forms.values()}
    single, pair = (_spelled(words, forms) for words in _OWN[family])
    processor = frame(single, pair, ids)
    if tokenizer.description.get("post_processor") == processor:
        return tokenizer
    described = json.dumps(
        tokenizer.description | {"post_processor": processor}, ensure_ascii=False, indent=2
    )
    return Tokenizer(
        described, kind=tokenizer.kind, special=tokenizer.special, chat_template=tokenizer.chat_template
    )


def _spelled(words: str, forms: Mapping[str, str]) -> str:
    """A template of purposes as one of forms."""
    parts = [word.partition(":") for word in words.split()]
    return " ".join(f"{forms.get(name, name)}:{token_type}" for name, _, token_type in parts)


def _template(tokenizer: Tokenizer, is_pair: bool, family: Family) -> _Template:
    if tokenizer.special.is_parakit_default:
        forms, words = tokenizer.special.strings, [word.split(":") for word in _OWN[family][is_pair].split()]
        return [
            (name if name in "AB" else [_known(tokenizer.token_id(forms[name]))], int(token_type))
            for name, token_type in words
        ]
    return _read(tokenizer.description.get("post_processor"), is_pair)


def _known(token_id: int | None) -> int:
    assert token_id is not None
    return token_id


def _read(processor: dict[str, Any] | None, is_pair: bool) -> _Template:
    """What a post-processor of tokenizer.json puts around one text or two."""
    steps = _flat(processor)
    if not steps:
        return [("A", 0), ("B", 1)] if is_pair else [("A", 0)]
    if len(steps) > 1:
        raise UserError(
            f"tokenizer.json frames a text {len(steps)} times over, one inside the other",
            "keep one of its post-processors that add tokens",
        )
    step = steps[0]
    if step["type"] == "TemplateProcessing":
        ids = {form: token["ids"] for form, token in step["special_tokens"].items()}
        return [_part(piece, ids) for piece in step["pair" if is_pair else "single"]]
    cls, sep = [step["cls"][1]], [step["sep"][1]]
    alone: _Template = [(cls, 0), ("A", 0), (sep, 0)]
    if step["type"] == "BertProcessing":
        return [*alone, ("B", 1), (sep, 1)] if is_pair else alone
    return [*alone, (sep, 0), ("B", 0), (sep, 0)] if is_pair else alone


def _part(piece: dict[str, Any], ids: dict[str, list[int]]) -> tuple[str | list[int], int]:
    if "Sequence" in piece:
        return piece["Sequence"]["id"], piece["Sequence"]["type_id"]
    return ids[piece["SpecialToken"]["id"]], piece["SpecialToken"]["type_id"]


def _flat(processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The post-processors that add tokens."""
    if processor is None or processor["type"] == "ByteLevel":
        return []
    if processor["type"] == "Sequence":
        return [step for inner in processor["processors"] for step in _flat(inner)]
    return [processor]


_FIRST, _SECOND = -1, -2  # stand for the texts


@dataclass(frozen=True)
class SpecialTokensTemplate:
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
    def from_dict(cls, values: dict[str, Any]) -> SpecialTokensTemplate:
        """What `to_dict` gave, through JSON."""
        parts, part_types = (tuple(map(tuple, values[name])) for name in ("parts", "part_types"))
        return cls(parts, part_types, tuple(values["text_types"]))


def special_tokens_template(tokenizer: Tokenizer, family: Family, n_texts: int) -> SpecialTokensTemplate:
    """How the models of `family` that use this tokenizer read one text, or two; `UserError` where the tokenizer
    frames them in no order that is known.
    """
    marks = (_FIRST, _SECOND)[:n_texts]
    framed = add_special_tokens(tokenizer, [_FIRST], [_SECOND] if n_texts == 2 else None, family)
    places = [i for i, token_id in enumerate(framed.token_ids) if token_id in marks]
    if [framed.token_ids[i] for i in places] != list(marks):
        raise UserError(
            "this tokenizer's post-processor does not put its texts one after the other",
            "give it a template such as `[CLS] $A [SEP] $B [SEP]`",
        )
    edges = [(begin, end) for begin, end in zip([0, *(i + 1 for i in places)], [*places, None], strict=True)]
    return SpecialTokensTemplate(
        tuple(tuple(framed.token_ids[begin:end]) for begin, end in edges),
        tuple(tuple(framed.token_type_ids[begin:end]) for begin, end in edges),
        tuple(framed.token_type_ids[i] for i in places),
    )


def truncate_pair(lengths: Sequence[int], limit: int) -> list[int]:
    """Lengths of one text or two that together have at most `limit` tokens: the longer is cut first; where both are
    cut, the longer keeps the odd token, and the second of equals (as `tokenizers` does).
    """
    if sum(lengths) <= limit:
        return list(lengths)
    if len(lengths) == 1:
        return [limit]
    shorter = min(*lengths, limit // 2)
    return [limit - shorter, shorter] if lengths[0] > lengths[1] else [shorter, limit - shorter]
