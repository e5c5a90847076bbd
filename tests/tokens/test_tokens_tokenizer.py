"""Text to ids and back, special tokens, and the folder on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import CorruptArtifact, UserError
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.tokenizer.special_tokens import SpecialTokens

KINDS = ("byte_bpe", "wordpiece", "unigram", "word", "char")


@given(text=st.text())
def test_byte_bpe_gives_back_every_text(byte_bpe: Tokenizer, text: str) -> None:
    assert byte_bpe.decode(byte_bpe.encode(text)) == text


def test_byte_bpe_gives_back_a_hundred_thousand_random_texts(byte_bpe: Tokenizer) -> None:
    generator = np.random.default_rng(0)
    alphabet = [*map(chr, range(0x250)), *"你好мир\u0301\u200d😀\U0010ffff\ue000\u2028 \t\n\r'<|>" * 4]
    chars = generator.choice(np.array(alphabet), 800_000)
    cuts = np.sort(generator.integers(0, len(chars), 100_000))
    texts = ["".join(part) for part in np.split(chars, cuts)]
    encoded = byte_bpe.encode_bulk(texts)
    assert [byte_bpe.decode(ids.tolist()) for ids in encoded] == texts


@given(text=st.text(alphabet="the cat sat,<|user> \n1!", max_size=40))
def test_char_gives_back_texts_of_known_characters(tokenizers: dict[str, Tokenizer], text: str) -> None:
    char = tokenizers["char"]
    assert char.decode(char.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_word_is_unk_where_the_kind_has_one(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers[kind]
    token_ids = tokenizer.encode("ᚠᚢᚦ")
    if kind == "byte_bpe":
        assert tokenizer.unk_id is None
        assert tokenizer.decode(token_ids) == "ᚠᚢᚦ"
    else:
        assert tokenizer.unk_id in token_ids


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_reads_like_the_text(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers[kind]
    text = "the cat sat on a mat, hello there."
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_the_lowest_ids_and_pad_is_not_eos(
    tokenizers: dict[str, Tokenizer], kind: str
) -> None:
    tokenizer = tokenizers[kind]
    assert sorted(tokenizer.special_tokens.values()) == list(range(len(tokenizer.special_tokens)))
    classic = [getattr(tokenizer, f"{name}_id") for name in ("bos", "eos", "pad", "sep", "cls", "mask")]
    assert None not in classic
    assert len({*classic, tokenizer.unk_id}) == 7
    assert set(tokenizer.turn_ids) == {"system", "user", "assistant", "tool", "end"}
    assert tokenizer.decode([tokenizer.bos_id, tokenizer.eos_id]) == ""
    assert tokenizer.decode([tokenizer.eos_id], skip_special=False) == "<|eos|>"


def test_pad_equal_to_eos_is_refused(byte_bpe: Tokenizer) -> None:
    with pytest.raises(UserError, match="PAD and EOS"):
        Tokenizer(byte_bpe.json, kind="byte_bpe", special=SpecialTokens({"pad": "<|eos|>", "eos": "<|eos|>"}))


@pytest.mark.parametrize("kind", KINDS)
def test_lone_surrogates_are_read_as_replacement_characters(
    tokenizers: dict[str, Tokenizer], kind: str
) -> None:
    tokenizer = tokenizers[kind]
    broken = "a\ud800b \udfff\ud83d\ude00"
    repaired = "a\ufffdb \ufffd😀"
    assert tokenizer.encode(broken) == tokenizer.encode(repaired)
    assert tokenizer.encode_bulk([broken])[0].tolist() == tokenizer.encode(repaired)


def test_bytes_of_a_cut_character_join_when_the_rest_comes(byte_bpe: Tokenizer) -> None:
    token_ids = byte_bpe.encode("😀")
    assert len(token_ids) > 1
    assert byte_bpe.decode(token_ids[:1]) == "\ufffd"
    assert b"".join(byte_bpe.decode_bytes([i]) for i in token_ids).decode() == "😀"
    assert byte_bpe.decode([10**6]) == "\ufffd"


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_the_same_when_loaded(
    tokenizers: dict[str, Tokenizer], kind: str, tmp_path: Path
) -> None:
    tokenizer = tokenizers[kind]
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    text = "Hello to 12 naïve cats. <|end|>"
    assert (loaded.digest, loaded.kind, loaded.special) == (
        tokenizer.digest,
        tokenizer.kind,
        tokenizer.special,
    )
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.chat_template == tokenizer.chat_template
    loaded.save(tmp_path / "again")
    for file in tmp_path.glob("*.json"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_the_folder_and_agrees(
    tokenizers: dict[str, Tokenizer], kind: str, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = tokenizers[kind]
    tokenizer.save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Hello to 12 naïve cats, the end.", "weren't\n\n there  été"):
        assert reference(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
        assert reference(text)["input_ids"] == [tokenizer.bos_id, *tokenizer.encode(text)]
    assert (reference.bos_token_id, reference.eos_token_id, reference.pad_token_id) == (
        tokenizer.bos_id,
        tokenizer.eos_id,
        tokenizer.pad_id,
    )
    assert reference.decode(tokenizer.encode("the cat sat, 7")) == tokenizer.decode(
        tokenizer.encode("the cat sat, 7")
    )


def test_a_foreign_folder_with_pad_equal_to_eos_has_no_pad(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    byte_bpe.save(tmp_path)
    (tmp_path / "special_tokens_map.json").unlink()
    settings = {"eos_token": {"content": "<|eos|>"}, "pad_token": "<|eos|>", "auto_map": {"x": "evil.Code"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.eos_id, loaded.pad_id, loaded.bos_id) == (byte_bpe.eos_id, None, None)
    assert loaded.kind == "byte_bpe"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"model": {}}', '{"model": 3}', "\x00"])
def test_a_damaged_tokenizer_is_named(byte_bpe: Tokenizer, tmp_path: Path, damage: str) -> None:
    byte_bpe.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(damage)
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_folder_without_a_tokenizer_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        Tokenizer.load(tmp_path / "absent")


def test_lowercase_folds_and_says_nothing_else() -> None:
    tokenizer = train_tokenizer(["Hello HELLO hello"] * 5, TokenizerConfig(vocab_size=300, lowercase=True))
    assert tokenizer.decode(tokenizer.encode("HeLLo Ünï")) == "hello ünï"
    assert tokenizer.encode_bulk(["HELLO"])[0].tolist() == tokenizer.reference_encoder.encode("hello")
