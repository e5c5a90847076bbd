"""A BPE of another publisher is completed without its vocabulary, and the result is what `tokenizers` makes of the whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.tokens.importers import tokenizer_json
from parakit.tokens.importers.tokenizer_json import added_token, base_json, byte_bpe_json, complete_json

VOCABULARY = {"a": 0, "b": 1, "ab": 2, "aba": 4, "c": 3}
MERGES = [["a", "b"], ["ab", "a"]]
SPECIAL = added_token(5, "<end>")


def bpe(**changes: Any) -> dict[str, Any]:
    model = {"type": "BPE", "vocab": VOCABULARY, "merges": MERGES} | changes
    return {**base_json([SPECIAL]), "model": model}


FULL = byte_bpe_json(VOCABULARY, MERGES, r"\s+|\S+", [SPECIAL])
POSTPROCESSOR = {"type": "ByteLevel", "trim_offsets": False, "add_prefix_space": True}
CASES = {
    "few fields": bpe(),
    "merges as texts": bpe(merges=["a b", "ab a"]),
    "all fields": FULL,
    "a step of an old version": {**FULL, "post_processor": POSTPROCESSOR},
    "options": bpe(byte_fallback=True, unk_token="<unk>", fuse_unk=True, continuing_subword_prefix=""),
    "dropout": bpe(dropout=0.1),
}


@pytest.mark.parametrize("name", CASES)
def test_only_the_fields_around_a_vocabulary_pass_through_the_library(name: str) -> None:
    published = CASES[name]
    whole = json.loads(HuggingFaceTokenizer.from_str(json.dumps(published)).to_str())
    fast = tokenizer_json._complete_around_bpe(published)
    assert fast is not None
    assert fast | {"added_tokens": []} == whole | {"added_tokens": []}
    assert json.dumps(fast["model"]) == json.dumps(whole["model"])  # in the order of the ids
    assert [token["content"] for token in complete_json(published)["added_tokens"]] == ["<end>"]


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab": VOCABULARY | {"d": 0}},  # an id twice
        {"merges": [*MERGES, MERGES[0]]},
        {"merges": ["a b c"]},
        {"vocab": list(VOCABULARY)},
    ],
)
def test_others_pass_as_a_whole(changes: dict[str, Any]) -> None:
    assert tokenizer_json._complete_around_bpe(bpe(**changes)) is None
