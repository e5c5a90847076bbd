"""Which token of a published tokenizer serves which purpose."""

from __future__ import annotations

import pytest

from parakit.tokens.importers.special_strings import read_special_tokens
from parakit.tokens.tokenizer.special_tokens import SpecialTokens

BERT = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"}
BART = {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}


@pytest.mark.parametrize(
    ("settings", "known", "forms"),
    [
        ({}, BERT, {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}),
        ({}, {"<|endoftext|>", "a"}, {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}),
        ({}, {"<unk>", "<s>", "</s>"}, {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}),
        ({}, {"<pad>", "</s>", "<unk>"}, {"eos": "</s>", "pad": "<pad>", "unk": "<unk>"}),
        (
            {},
            BART,
            {
                "bos": "<s>",
                "cls": "<s>",
                "eos": "</s>",
                "sep": "</s>",
                "pad": "<pad>",
                "unk": "<unk>",
                "mask": "<mask>",
            },
        ),
        # what a folder names goes before what its class has
        (
            {"tokenizer_class": "LlamaTokenizerFast", "pad_token": {"content": "<pad>"}},
            {"<s>", "</s>", "<unk>", "<pad>"},
            {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"},
        ),
        # null is said, and means none
        (
            {"tokenizer_class": "GPT2Tokenizer", "bos_token": None},
            {"<|endoftext|>"},
            {"eos": "<|endoftext|>"},
        ),
        # a folder of no known class that names one token has the others on purpose
        ({"eos_token": "<|im_end|>"}, {"<|im_end|>", "<|endoftext|>"}, {"eos": "<|im_end|>"}),
        # not in the vocabulary: absent
        ({"eos_token": "<end>"}, {"a"}, {}),
        # PAD must not be EOS, nor UNK a token that ends texts
        ({"eos_token": "</s>", "pad_token": "</s>"}, {"</s>"}, {"eos": "</s>"}),
        ({"eos_token": "<e>", "unk_token": "<e>"}, {"<e>"}, {"eos": "<e>"}),
        ({"eos_token": 7, "bos_token": ["x"]}, {"7"}, {}),
    ],
)
def test_purposes_are_found(settings: dict, known: set[str], forms: dict[str, str]) -> None:
    assert read_special_tokens(settings, known).strings == forms


def test_sentinels_and_turn_markers_are_found_in_order() -> None:
    known = {f"<extra_id_{i}>" for i in (10, 0, 2, 1)} | {"<extra_id_007>", "<extra_id_>", "a"}
    assert read_special_tokens({}, known).sentinels == (
        "<extra_id_0>",
        "<extra_id_1>",
        "<extra_id_2>",
        "<extra_id_10>",
    )
    turns = {f"<|{name}|>" for name in ("system", "user", "assistant", "tool", "end")}
    assert set(read_special_tokens({}, turns).turns) == {"system", "user", "assistant", "tool", "end"}
    assert read_special_tokens({}, turns - {"<|end|>"}).turns == {}


def test_only_parakits_own_tokens_serve_every_family() -> None:
    own = {name: f"<|{name}|>" for name in ("bos", "eos", "sep", "cls")}
    assert SpecialTokens(own).is_parakit_default
    assert not SpecialTokens(own | {"cls": "[CLS]"}).is_parakit_default
    assert not SpecialTokens({"bos": "<|bos|>", "eos": "<|eos|>"}).is_parakit_default
