"""The fast path gives the ids of the slow one; where that cannot be proven, it is not taken."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.tokenizer.fast_encoding import (
    PATTERNS,
    CharacterEncoder,
    TiktokenEncoder,
    byte_alphabet,
    equivalent_tiktoken_ranks,
    splitting_pattern,
)

HARD = st.text(
    alphabet=st.one_of(
        st.sampled_from(" \t\n\r'sSſtT109<|>ée\u0301你😀\x00"), st.characters(exclude_categories=["Cs"])
    )
)


def test_byte_bpe_is_encoded_by_tiktoken_and_characters_by_a_table(tokenizers: dict[str, Tokenizer]) -> None:
    assert isinstance(tokenizers["byte_bpe"]._encoder, TiktokenEncoder)
    assert isinstance(tokenizers["char"]._encoder, CharacterEncoder)


@given(text=HARD)
def test_fast_ids_are_the_ids_of_tokenizers(tokenizers: dict[str, Tokenizer], text: str) -> None:
    for kind in ("byte_bpe", "char"):
        assert tokenizers[kind].encode(text) == tokenizers[kind].reference_encoder.encode(text)


@given(texts=st.lists(HARD, max_size=30))
def test_bulk_ids_are_the_single_ids(tokenizers: dict[str, Tokenizer], texts: list[str]) -> None:
    for tokenizer in tokenizers.values():
        assert [ids.tolist() for ids in tokenizer.encode_bulk(texts)] == [tokenizer.encode(t) for t in texts]


@pytest.mark.parametrize(("split_digits", "n_documents"), [(True, 100_000), (False, 20_000)])
def test_a_hundred_thousand_documents_get_equal_ids(split_digits: bool, n_documents: int) -> None:
    generator = np.random.default_rng(1)
    words = [
        *[
            "the",
            "of",
            "and",
            "12",
            "2024",
            "don't",
            "I'LL",
            "\n\n",
            "",
            "",
            "\t",
            "été",
            "你好",
            "😀",
            "<|end|>",
            "...",
            "naïve",
            "x\ry",
        ],
        " ",
        "\n",
    ]
    config = TokenizerConfig(vocab_size=700, split_digits=split_digits)
    tokenizer = train_tokenizer([" ".join(generator.choice(words, 60)) for _ in range(200)], config)
    picks = generator.choice(words, (n_documents, 6))
    separators = [" ", ""] * (n_documents // 2)
    documents = [separator.join(row) for row, separator in zip(picks, separators, strict=True)]
    fast = tokenizer.encode_bulk(documents)
    slow = tokenizer.reference_encoder.encode_bulk(documents)
    assert isinstance(tokenizer._encoder, TiktokenEncoder)
    assert np.array_equal(np.concatenate(fast), np.concatenate(slow))
    assert [len(a) for a in fast] == [len(b) for b in slow]


@pytest.mark.parametrize("name", ["\\p{L}", "\\p{N}", "\\s", "\\p{Lu}", "\\p{Ll}", "\\p{M}"])
def test_both_engines_agree_on_every_code_point(name: str) -> None:
    planes = [*range(0xD800), *range(0xE000, 0x32000), *range(0xE0000, 0xE0200)]
    text = "".join(map(chr, planes))
    marked = "".join(
        piece for piece, _ in pre_tokenizers.Split(Regex(name), "removed").pre_tokenize_str(text)
    )
    ranks = {bytes([byte]): byte for byte in range(256)}
    engine = tiktoken.Encoding("bytes", pat_str=name, mergeable_ranks=ranks, special_tokens={})
    matched = bytes(engine.encode_ordinary(text)).decode()
    assert set(marked) | set(matched) == set(text)
    assert not set(marked) & set(matched)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=HARD)
def test_both_engines_split_alike(pattern: str, text: str) -> None:
    splitter = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
    pieces = [piece for piece, _ in splitter.pre_tokenize_str(text)]
    ranks = {bytes([byte]): byte for byte in range(256)}
    whole = {piece.encode(): 256 + i for i, piece in enumerate(set(pieces)) if len(piece.encode()) > 1}
    engine = tiktoken.Encoding(
        "pieces", pat_str=PATTERNS[pattern], mergeable_ranks=ranks | whole, special_tokens={}
    )
    assert [engine.decode_single_token_bytes(i) for i in engine.encode_ordinary(text)] == [
        piece.encode() for piece in pieces
    ]


def test_hundreds_of_thousands_of_spaces_are_no_crash(byte_bpe: Tokenizer) -> None:
    text = " " * 600_000 + "a"
    token_ids = byte_bpe.encode(text)
    assert byte_bpe.decode(token_ids) == text


def test_tokens_are_listed_but_merged_otherwise_so_tiktoken_is_not_used(byte_bpe: Tokenizer) -> None:
    parsed_json = byte_bpe.parsed_json
    controls = set(byte_bpe.control_ids)
    assert equivalent_tiktoken_ranks(parsed_json, controls) is not None

    def without(change: str) -> dict:
        other = copy.deepcopy(parsed_json)
        model, alphabet = other["model"], byte_alphabet()
        if change == "a merge no neighbours reach":  # bc joins first, so ab never stands before c
            model["vocab"] = {char: i for i, char in enumerate(alphabet)} | {"bc": 256, "ab": 257, "abc": 258}
            model["merges"] = [["b", "c"], ["a", "b"], ["ab", "c"]]
        elif change == "merges in another order":
            model["merges"][0], model["merges"][-1] = model["merges"][-1], model["merges"][0]
        elif change == "a token made twice":
            model["merges"].append(model["merges"][-1])
        elif change == "a token that no merge makes":
            model["merges"].pop()
        elif change == "a byte that is missing":
            model["vocab"].pop("Ā")
        else:
            model["dropout"] = 0.1
        return other

    assert equivalent_tiktoken_ranks(without("a merge no neighbours reach"), set()) is None
    for change in (
        "merges in another order",
        "a token made twice",
        "a token that no merge makes",
        "a byte that is missing",
        "dropout",
    ):
        assert equivalent_tiktoken_ranks(without(change), controls) is None, change


def test_an_unknown_pattern_or_normaliser_keeps_equal_ids(byte_bpe: Tokenizer) -> None:
    parsed_json = copy.deepcopy(byte_bpe.parsed_json)
    parsed_json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\W+"
    assert splitting_pattern(parsed_json["pre_tokenizer"]) is None
    other = Tokenizer(json.dumps(parsed_json), kind="byte_bpe", special=byte_bpe.special)
    assert other._encoder is other.reference_encoder
    normalising = copy.deepcopy(byte_bpe.parsed_json) | {"normalizer": {"type": "NFC"}}
    folded = Tokenizer(json.dumps(normalising), kind="byte_bpe", special=byte_bpe.special)
    assert isinstance(folded._encoder, TiktokenEncoder)
    assert folded.encode("e\u0301") == folded.reference_encoder.encode("e\u0301") == byte_bpe.encode("é")
