"""Texts between the special tokens that each family reads, and the same in the folder that others load."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common import UserError
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.tokenizer.special_tokens_template import (
    EncodedText,
    add_special_tokens,
    with_special_tokens_template,
)

transformers = pytest.importorskip("transformers")

FAMILIES = ("decoder", "encoder", "encoder-decoder")


def test_parakits_own_tokenizers_frame_by_family(byte_bpe: Tokenizer) -> None:
    bos, eos, cls, sep = byte_bpe.bos_id, byte_bpe.eos_id, byte_bpe.cls_id, byte_bpe.sep_id
    assert add_special_tokens(byte_bpe, [50, 51]) == EncodedText([cls, 50, 51, sep], [0, 0, 0, 0])
    assert add_special_tokens(byte_bpe, [50], [60, 61]) == EncodedText(
        [cls, 50, sep, 60, 61, sep], [0, 0, 0, 1, 1, 1]
    )
    assert add_special_tokens(byte_bpe, [50], []) == EncodedText([cls, 50, sep, sep], [0, 0, 0, 1])
    assert add_special_tokens(byte_bpe, [50], family="encoder-decoder").token_ids == [50, eos]
    assert add_special_tokens(byte_bpe, [50], family="decoder").token_ids == [bos, 50]
    assert add_special_tokens(byte_bpe, [50], [60], family="decoder").token_ids == [bos, 50, bos, 60]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram", "char"])
def test_transformers_frames_what_was_framed_for_a_family_alike(
    tokenizers: dict[str, Tokenizer], kind: str, family: str, tmp_path: Path
) -> None:
    tokenizer = with_special_tokens_template(tokenizers[kind], family)
    tokenizer.save(tmp_path, token_types=True)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    first, second = "The cat sat, 37 times.", "hello"
    for pair in ((first,), (first, second)):
        encoded_text = add_special_tokens(tokenizer, *map(tokenizer.encode, pair), family=family)
        made = reference(*pair)
        assert (encoded_text.token_ids, encoded_text.token_type_ids) == (
            made["input_ids"],
            made["token_type_ids"],
        )


def test_the_frame_changes_neither_ids_nor_digest(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    digests = {with_special_tokens_template(byte_bpe, family).digest for family in FAMILIES}
    assert digests == {byte_bpe.digest}
    assert with_special_tokens_template(byte_bpe, "decoder") is byte_bpe  # what training writes already
    with_special_tokens_template(byte_bpe, "encoder").save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.digest == byte_bpe.digest
    assert with_special_tokens_template(loaded, "encoder") is loaded
    assert loaded.encode("The cat <|cls|>") == byte_bpe.encode("The cat <|cls|>")


def test_another_vocabulary_has_another_digest(byte_bpe: Tokenizer) -> None:
    other = train_tokenizer(["the cat sat on the mat"], TokenizerConfig(vocab_size=290))
    assert other.digest != byte_bpe.digest


def test_two_frames_one_inside_the_other_are_refused(byte_bpe: Tokenizer) -> None:
    import json

    processor = byte_bpe.parsed_json["post_processor"]
    twice = byte_bpe.parsed_json | {
        "post_processor": {"type": "Sequence", "processors": [processor, processor]}
    }
    forms = {**byte_bpe.special.strings, "cls": "<|mask|>"}  # no longer our own
    special = type(byte_bpe.special)(forms)
    tokenizer = Tokenizer(json.dumps(twice), kind="byte_bpe", special=special)
    with pytest.raises(UserError, match="2 times, by nested"):
        add_special_tokens(tokenizer, [50])


def test_sentinels_are_control_tokens_in_the_order_of_use(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(
        ["the cat sat on the mat"] * 9, TokenizerConfig(vocab_size=300, n_sentinels=12)
    )
    assert [tokenizer.token(i) for i in tokenizer.sentinel_ids] == [f"<extra_id_{i}>" for i in range(12)]
    assert set(tokenizer.sentinel_ids) <= tokenizer.control_ids
    assert not set(tokenizer.encode("the <extra_id_3> mat")) & tokenizer.control_ids
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).sentinel_ids == tokenizer.sentinel_ids
    plain = train_tokenizer(["the cat sat on the mat"] * 9, TokenizerConfig(vocab_size=300))
    assert plain.sentinel_ids == []
