"""The parts of a tokenizer.json that the importers assemble."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.files import JsonObject
from parakit.tokens.tokenizer.fast_encoding import PATTERNS

# Patterns of published tokenizers that are known to end on every text; others are tried first.
KNOWN_PATTERNS = frozenset({*PATTERNS.values(), r"\s+", r" \z", " {2,}", r"[\s\S]", r"\p{N}", r"\p{N}{1,3}"})
ADDED_FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")


def complete_json(published: JsonObject) -> JsonObject:
    """A third-party tokenizer.json with every field that the current format has: files from before 2022 lack some (the
    model's `type`, ByteLevel's `use_regex`, Metaspace's `prepend_scheme`), to which `tokenizers` gives their values.
    """
    complete = _complete_around_bpe(published) or _completed(published)
    added = [dict.fromkeys(ADDED_FLAGS, False) | token for token in published.get("added_tokens") or []]
    model = complete["model"]
    if model.get("end_of_word_suffix") and (complete["decoder"] or {}).get("type") == "ByteLevel":
        complete["decoder"] = suffix_decoder(
            model["end_of_word_suffix"]
        )  # CLIP's: transformers decodes by its class
    return complete | {"added_tokens": added}


def _completed(published: JsonObject) -> JsonObject:
    complete: JsonObject = json.loads(
        HuggingFaceTokenizer.from_str(json.dumps(published, ensure_ascii=False)).to_str()
    )
    return complete


def _complete_around_bpe(published: JsonObject) -> JsonObject | None:
    """As `_completed`, of a BPE whose vocabulary and merges need no completion; None for all else. Only the fields around
    them pass through `tokenizers`, which saves a third of a second with 50,000 tokens.
    """
    model = published["model"]
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if model.get("type") != "BPE" or not isinstance(vocabulary, dict) or not isinstance(merges, list):
        return None
    pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
    ids = set(vocabulary.values())
    if any(len(pair) != 2 for pair in pairs) or len(set(pairs)) < len(pairs) or len(ids) < len(vocabulary):
        return None
    complete = _completed(published | {"model": model | {"vocab": {}, "merges": []}, "added_tokens": []})
    ordered = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
    return complete | {"model": complete["model"] | {"vocab": ordered, "merges": list(map(list, pairs))}}


def without_sampling(parsed: JsonObject) -> JsonObject:
    """A tokenizer.json that gives a text the same ids each time: a BPE `dropout` is switched off. It is for training."""
    if not parsed["model"].get("dropout"):
        return parsed
    return parsed | {"model": parsed["model"] | {"dropout": None}}


def suffix_decoder(suffix: str) -> JsonObject:
    """Decodes byte-level tokens with a suffix at the end of each word, which becomes a space."""
    space = {
        "type": "Replace",
        "pattern": {"String": suffix},
        "content": "\u0120",
    }  # a space in the byte alphabet
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    strip = {"type": "Replace", "pattern": {"Regex": r" \z"}, "content": ""}  # Strip panics on an empty text
    return {"type": "Sequence", "decoders": [space, byte_level, strip]}


def base_json(added: list[JsonObject]) -> JsonObject:
    """A tokenizer.json without its model: no normalizer, no pre-tokenizer, no special tokens around a text."""
    steps = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {"version": "1.0", "added_tokens": added, **dict.fromkeys(steps)}


def added_token(token_id: int, string: str, special: bool = True, lstrip: bool = False) -> JsonObject:
    """A token outside the model's own vocabulary, matched literally; `lstrip`: with the spaces before it."""
    flags = {"single_word": False, "lstrip": lstrip, "rstrip": False, "normalized": False}
    return {"id": token_id, "content": string, **flags, "special": special}


def byte_bpe_json(
    vocabulary: Mapping[str, int], merges: Sequence[Sequence[str]], pattern: str, added: list[JsonObject]
) -> JsonObject:
    """The tokenizer.json of a byte-level BPE that splits by `pattern`; it adds no special tokens around a text."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        **base_json(added),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "decoder": byte_level | {"use_regex": True},
        "model": {"type": "BPE", "vocab": dict(vocabulary), "merges": list(merges), "ignore_merges": False},
    }


def template_processing(single: str, pair: str, ids: Mapping[str, int]) -> JsonObject:
    """A post-processor, from templates such as "[CLS]:0 A:0 [SEP]:0": special tokens and the texts A and B, each with
    its token type. `ids` maps special tokens to ids.
    """
    used = {word.rpartition(":")[0] for word in (*single.split(), *pair.split())} - {"A", "B"}
    return {
        "type": "TemplateProcessing",
        "single": [_step(word) for word in single.split()],
        "pair": [_step(word) for word in pair.split()],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in sorted(used)
        },
    }


def _step(word: str) -> JsonObject:
    name, _, token_type = word.rpartition(":")
    return {"Sequence" if name in ("A", "B") else "SpecialToken": {"id": name, "type_id": int(token_type)}}
