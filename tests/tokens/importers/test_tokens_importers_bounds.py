"""What a third-party tokenizer.json cannot do: sample, grow a text without end, backtrack, or take the process along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.errors import CorruptArtifact, UserError
from parakit.inference.generation.text_stream import CharacterStream
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.importers import bounded_tokenizer
from parakit.tokens.tokenizer.fast_encoding import byte_alphabet

BASE = json.loads(train_tokenizer(["the small bird sings "] * 20, TokenizerConfig(vocab_size=300)).json)


def load(folder: Path, **changed: Any) -> Tokenizer:
    (folder / "tokenizer.json").write_text(json.dumps(BASE | changed))
    return Tokenizer.load(folder)


def split(pattern: str) -> dict[str, Any]:
    one = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [one, BASE["pre_tokenizer"]["pretokenizers"][-1]]}


def replace(pattern: dict[str, str], content: str, n: int) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": pattern, "content": content}
    return {"type": "Sequence", "normalizers": [step] * n}


def added(token_id: int, string: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": token_id, "content": string, **flags}


@pytest.mark.parametrize(
    "settings", [{}, {"parakit_kind": "byte_bpe"}], ids=["published", "claims to be Parakit's"]
)
def test_dropout_is_off(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load(tmp_path, model=BASE["model"] | {"dropout": 0.5})
    plain = load(tmp_path)
    for _ in range(8):
        assert tokenizer.encode("the small bird sings") == plain.encode("the small bird sings")
        assert tokenizer.reference_encoder.encode("the small bird") == plain.encode("the small bird")
    assert json.loads(tokenizer.json)["model"]["dropout"] is None


def test_truncation_and_padding_are_off(tmp_path: Path) -> None:
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    fill = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
    }
    tokenizer = load(tmp_path, truncation=cut, padding=fill | {"pad_token": "<pad>"})
    text = "the small bird sings"
    ids = load(tmp_path).encode(text)
    assert len(ids) > 2
    assert tokenizer.encode(text) == tokenizer.reference_encoder.encode(text) == ids
    assert [one.tolist() for one in tokenizer.encode_bulk([text])] == [ids]


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"pre_tokenizer": split(r"(a+)+b")}, "patterns fail"),
        ({"pre_tokenizer": split(r"(xy?x+)+z")}, "patterns fail"),
        ({"pre_tokenizer": split("(")}, "patterns fail"),
        ({"normalizer": replace({"String": "a"}, "aa", 32)}, r"grows a text up to 4.29e\+09 times"),
        ({"normalizer": replace({"Regex": ""}, "aaa", 8)}, "grows a text"),
        (
            {"added_tokens": [added(300 + i, f"<{i}>") for i in range(60)]},
            r"\d\d added tokens; 50 is the limit",
        ),
        ({"model": BASE["model"] | {"vocab": {**BASE["model"]["vocab"], "far": 2**31}}}, "2147483649 ids"),
        (
            {
                "model": {
                    "type": "WordPiece",
                    "vocab": {"a": 0},
                    "unk_token": "a",
                    "max_input_chars_per_word": 10**9,
                }
            },
            "word",
        ),
        ({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", float("-inf")]]}}, "-inf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], names: str
) -> None:
    monkeypatch.setattr(bounded_tokenizer, "MAX_ADDED", 50)
    with pytest.raises(CorruptArtifact, match=names):
        load(tmp_path, **changed)


def test_an_unknown_pattern_that_ends_is_used(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, pre_tokenizer=split(r"[^\s]+|\s+"))
    assert tokenizer.decode(tokenizer.encode("the bird  sings\n")) == "the bird  sings\n"


def test_a_failure_of_the_library_is_an_error_of_ours(tmp_path: Path) -> None:
    gone = {"type": "WordLevel", "vocab": {"the": 0}, "unk_token": "gone"}
    tokenizer = load(tmp_path, model=gone, added_tokens=[], post_processor=None)
    with pytest.raises(UserError, match="UNK"):
        tokenizer.encode("bird")


@pytest.fixture(scope="module")
def with_letters(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Added tokens that are bytes of the vocabulary (½, é, Ġ) and one that is not (ab½)."""
    vocabulary = BASE["model"]["vocab"]
    tokens = [added(vocabulary[string], string) for string in "½éĠ"] + [added(len(vocabulary), "ab½")]
    return load(tmp_path_factory.mktemp("letters"), added_tokens=[*BASE["added_tokens"], *tokens])


@pytest.mark.parametrize("text", ["½", "1 ½ l", "é", "ab½", "the ab½ and ½ sing", "ý 日本 é ½", " ", "½½é"])
def test_added_tokens_that_look_like_bytes_come_back(with_letters: Tokenizer, text: str) -> None:
    """They decoded to U+FFFD, as they do in `tokenizers`, and text with their bytes to something else."""
    ids = with_letters.encode(text)
    assert ids == HuggingFaceTokenizer.from_str(with_letters.json).encode(text, add_special_tokens=False).ids
    assert with_letters.decode(ids) == text
    stream = CharacterStream(with_letters)
    assert "".join(stream.push(token_id) for token_id in ids) == text


@given(st.text("ab½éýþ 日\n", max_size=12))
def test_a_text_with_such_tokens_comes_back(with_letters: Tokenizer, text: str) -> None:
    decoded = with_letters.decode(with_letters.encode(text))
    # é is 0xE9, the first byte of a character such as 日: two bytes of ½'s kind behind it would be read as one
    assert decoded == text or "é½½" in text


@given(st.binary(max_size=12))
def test_bytes_of_the_vocabulary_stay_bytes(with_letters: Tokenizer, data: bytes) -> None:
    alphabet = byte_alphabet()
    ids = [with_letters.token_id(alphabet[byte]) for byte in data]
    try:
        expected = data.decode()
    except UnicodeDecodeError:
        return
    assert with_letters.decode([i for i in ids if i is not None]) == expected
