"""A tokenizer as the metadata of a GGUF file: the inverse of `tokenizer`.

llama.cpp splits text by program code, which the file names (`tokenizer.ggml.pre`): a byte-level BPE is exported if its
splitting is one of those. A BPE of sentencepiece has scores instead of merges, from which the same merges follow. What
cannot be expressed is refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from parakit.checkpoints.gguf.pre_tokenizers import NORMALIZER, SPLITTINGS, Splitting
from parakit.checkpoints.gguf.tokenizer import IDS, PREFIX, STOPS, TEMPLATE
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.importers.sentencepiece_model import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
)
from parakit.tokens.importers.sentencepiece_tokenizer import SPACE
from parakit.tokens.tokenizer.fast_encoding import equivalent_tiktoken_ranks
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_HINT = "export a plain folder instead (parakit export MODEL --output FOLDER), and convert it with llama.cpp's own program"


def tokenizer_metadata(tokenizer: Tokenizer, n_rows: int, with_template: bool) -> JsonObject:
    """The metadata under its full keys, for an embedding of `n_rows` rows. `with_template`: the model reads conversations.
    Raises `UserError` for a tokenizer that llama.cpp has no counterpart of.
    """
    parsed = tokenizer.parsed_json
    model = parsed["model"]
    if model["type"] != "BPE" or tokenizer.target_json is not None:
        raise _refusal(
            f"is of the kind {tokenizer.kind!r}, and a byte-level or a sentencepiece BPE is needed"
        )
    written = _byte_bpe(tokenizer) if tokenizer.kind == "byte_bpe" else _sentencepiece(tokenizer)
    tokens, types = _vocabulary(tokenizer, n_rows)
    written |= {f"{PREFIX}tokens": tokens, f"{PREFIX}token_type": types}
    written |= {f"{PREFIX}{key}": value for key, value in _special_ids(tokenizer).items()}
    written |= {f"{PREFIX}{key}": value for key, value in _around(tokenizer).items()}
    if with_template and tokenizer.chat_template is not None:
        written[TEMPLATE] = tokenizer.chat_template
        if names := sorted(tokenizer.named_templates):
            written |= {f"{TEMPLATE}.{name}": tokenizer.named_templates[name] for name in names}
            written["tokenizer.chat_templates"] = names
    return written


def _refusal(reason: str) -> UserError:
    return UserError(f"the tokenizer {reason}", _HINT)


def _vocabulary(tokenizer: Tokenizer, n_rows: int) -> tuple[list[str], list[int]]:
    """Every row's token and its type; rows without a token are called [PAD7] and unused, as llama.cpp's converter has it."""
    unknown = tokenizer.unk_id if tokenizer.kind != "byte_bpe" else None
    purposes = {tokenizer.token_id(string) for string in tokenizer.special.strings.values()}
    added = {token["id"]: token for token in tokenizer.parsed_json.get("added_tokens", [])}
    by_id = {token_id: token for token, token_id in tokenizer.vocabulary.items()}
    tokens, types = [], []
    for i in range(n_rows):
        token = by_id.get(i)
        if token is None:
            token, kind = f"[PAD{i}]", UNUSED
        elif i == unknown:
            kind = UNKNOWN
        elif i in purposes or (i in added and added[i]["special"]):
            kind = CONTROL
        elif i in added:
            kind = USER_DEFINED
        else:
            kind = BYTE if tokenizer.kind != "byte_bpe" and _BYTE_PIECE.fullmatch(token) else NORMAL
        tokens.append(token)
        types.append(kind)
    return tokens, types


def _byte_bpe(tokenizer: Tokenizer) -> JsonObject:
    model = tokenizer.parsed_json["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    if any(merge.count(" ") != 1 for merge in merges):
        raise _refusal("has a merge of tokens with spaces in them")
    name, normalizer = _pre_tokenizer_name(tokenizer)
    keys = {"model": "gpt2", "pre": name, "merges": merges}
    written: JsonObject = {f"{PREFIX}{key}": value for key, value in keys.items()}
    if normalizer != SPLITTINGS[name].normalizer:  # llama.cpp never normalizes
        written[NORMALIZER] = normalizer or "none"
    return written


def _pre_tokenizer_name(tokenizer: Tokenizer) -> tuple[str, str | None]:
    """The first of llama.cpp's names that splits as the tokenizer does, and what normalizes text before."""
    parsed = tokenizer.parsed_json
    normalizer = parsed.get("normalizer")
    if normalizer is not None and normalizer.get("type") not in ("NFC",):
        raise _refusal(
            f"changes text by a normalizer of type {normalizer.get('type')!r}, which llama.cpp has not"
        )
    steps = _split_steps(parsed.get("pre_tokenizer"))
    whole = bool(parsed["model"].get("ignore_merges"))
    names = [name for name, split in SPLITTINGS.items() if _split_steps(split.pre_tokenizer()) == steps]
    exact = [name for name in names if SPLITTINGS[name].ignore_merges == whole]
    if not exact and names and equivalent_tiktoken_ranks(parsed, set(tokenizer.control_ids)) is not None:
        exact = names  # every token is what its own bytes merge to, so the flag changes nothing
    if not exact:
        patterns = " then ".join(repr(step[0]) for step in steps) if steps else parsed.get("pre_tokenizer")
        known = "merges inside whole words differ" if names else "it has none for this one"
        raise _refusal(f"splits text by {patterns}, and llama.cpp knows splittings by name: {known}")
    kind = None if normalizer is None else str(normalizer["type"])
    return _best_name(exact, SPLITTINGS, kind), kind


def _best_name(names: Sequence[str], splittings: Mapping[str, Splitting], normalizer: str | None) -> str:
    """`qwen2` where it is one of them, because other engines know it too; else one with the same normalizer."""
    if "qwen2" in names:
        return "qwen2"
    return next((name for name in names if splittings[name].normalizer == normalizer), names[0])


def _split_steps(pre_tokenizer: Any) -> list[tuple[str, bool]] | None:
    """Patterns of a byte-level pre-tokenizer and whether each is GPT-2's, in a form in which equal splittings are equal;
    None for another.
    """
    if pre_tokenizer is None:
        return None
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    *splits, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    found = []
    for split in splits:
        if split["type"] == "Digits" and split["individual_digits"]:
            found.append((r"\p{N}", False))
        elif split["type"] == "ByteLevel" and split["use_regex"] and not split["add_prefix_space"]:
            found.append(("", True))
        elif split["type"] == "Split" and split["behavior"] == "Isolated" and not split["invert"]:
            found.append((split["pattern"].get("Regex"), False))
        else:
            return None
    return [*found, ("", True)] if last["use_regex"] else found


def _sentencepiece(tokenizer: Tokenizer) -> JsonObject:
    """Scores fall from merge to merge, so that the same merges follow from them. What the pieces and the rest of the
    tokenizer.json really do is compared when the file is read again.
    """
    parsed = tokenizer.parsed_json
    model = parsed["model"]
    if not model.get("byte_fallback") or not any(SPACE in token for token in model["vocab"]):
        raise _refusal(
            f"is a BPE of the kind {tokenizer.kind!r}, neither byte-level nor with bytes as a last resort"
        )
    rank: dict[str, int] = {}
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        rank.setdefault(left + right, len(rank))
    scores = [0.0] * tokenizer.vocab_size
    for token, token_id in model["vocab"].items():
        scores[token_id] = -float(rank.get(token, len(rank)))
    keys = {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": _adds_space(parsed)}
    return {f"{PREFIX}{key}": value for key, value in keys.items()}


def _adds_space(parsed: JsonObject) -> bool:
    """Whether a space is put before a text, by any of the ways that tokenizer.json has for it."""
    normalizer, splitter = parsed.get("normalizer") or {}, parsed.get("pre_tokenizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if any(step.get("type") == "Prepend" for step in steps):
        return True
    splits = splitter.get("pretokenizers", [splitter])
    return any(step.get("type") == "Metaspace" and step.get("prepend_scheme") != "never" for step in splits)


def _special_ids(tokenizer: Tokenizer) -> JsonObject:
    """Ids by purpose, and those that end a completion: the end of the text, of a turn, and one more."""
    written = {}
    for purpose, key in IDS.items():
        token_id = (
            tokenizer.token_id(tokenizer.special.strings[purpose])
            if purpose in tokenizer.special.strings
            else None
        )
        if token_id is not None:
            written[key] = token_id
    known = [i for i in stop_ids(tokenizer) if i < tokenizer.vocab_size]  # configs name ids that do not exist
    stops = [i for i in known if i != written.get("eos_token_id")]
    if "eos_token_id" not in written:
        if not stops:
            raise _refusal("has no token that ends a text, and llama.cpp takes the token 11 for one then")
        written["eos_token_id"] = stops.pop(0)
    if len(stops) > len(STOPS) - 1:
        raise _refusal(f"has {len(stops) + 1} tokens that end a text, and a GGUF file names {len(STOPS)}")
    return written | dict(zip(STOPS[1:], stops, strict=False))


def _around(tokenizer: Tokenizer) -> JsonObject:
    """Whether BOS is put before a text and EOS after it; nothing else can be."""
    before, after = text_boundaries(tokenizer)
    if before not in ([], [tokenizer.bos_id]) or after not in ([], [tokenizer.eos_id]):
        raise _refusal("puts more around a text than BOS before it and EOS after it")
    return {"add_bos_token": bool(before), "add_eos_token": bool(after)}
