"""The parts of a tokenizer.json that the importers assemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parakit.common.files import JsonObject


def base_json(added: list[JsonObject]) -> JsonObject:
    """A tokenizer.json without its model: no normalizer, no pre-tokenizer, no special tokens around a text."""
    steps = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {"version": "1.0", "added_tokens": added, **dict.fromkeys(steps)}


def added_token(token_id: int, string: str, special: bool = True) -> JsonObject:
    """A token outside the model's own vocabulary, matched literally."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
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
