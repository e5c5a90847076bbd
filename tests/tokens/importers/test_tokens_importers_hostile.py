"""Tokenizer files from strangers: cut short, altered or made up, they are refused by name and never crash or hang."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common import CorruptArtifact, UserError
from parakit.tokens import Tokenizer
from parakit.tokens.importers.charsmap import check_charsmap
from parakit.tokens.importers.protobuf import as_int, fields
from parakit.tokens.importers.sentencepiece_model import parse_sentencepiece
from tests.short_suite import examples

sentencepiece = pytest.importorskip("sentencepiece")

TEXT = "ﬁne ½ e\u0301\u0323 naïve 你好 \uff76\uff9e\x00 \u3000 plain"


@pytest.fixture(scope="module")
def model() -> bytes:
    """A small Unigram model with sentencepiece's normalization table."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "a naïve café"] * 4),
        model_writer=out,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return out.getvalue()


def varint(number: int) -> bytes:
    out = b""
    while True:
        number, low = number >> 7, number & 0x7F
        if not number:
            return out + bytes([low])
        out += bytes([low | 0x80])


def chunk(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def piece(text: bytes, score: float = -1.0, kind: int = 1) -> bytes:
    return chunk(
        1, chunk(1, text) + varint(2 << 3 | 5) + struct.pack("<f", score) + varint(3 << 3) + varint(kind)
    )


UNKNOWN = piece(b"<unk>", 0.0, 2)


def test_numbers_and_messages_are_read_as_written() -> None:
    data = (
        varint(1 << 3)
        + varint(2**64 - 3)
        + chunk(2, b"ab")
        + varint(3 << 3 | 5)
        + b"1234"
        + varint(4 << 3 | 1)
    )
    read = list(fields(data + b"12345678"))
    assert [(number, kind) for number, kind, _ in read] == [(1, 0), (2, 2), (3, 5), (4, 1)]
    assert as_int(read[0][2]) == -3
    assert [value for _, _, value in read[1:]] == [b"ab", b"1234", b"12345678"]


@examples(300)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_sentencepiece(data)
    except ValueError:
        return
    raise AssertionError("a random string is no model: it has no piece for the unknown")


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        (b"\x0a\xff\xff\xff\xff\x0f", "claims 4294967295 bytes, 0 are left"),
        (b"\x0a" + b"\xff" * 11, "more than ten bytes"),
        (b"\x0a\x80", "ends inside a number"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x00", "field number 0"),
        (piece(b"a"), "0 pieces are of the kind unknown"),
        (UNKNOWN + piece(b"a") * 2, "two pieces are the same"),
        (UNKNOWN + piece(b"a", float("nan")), "not finite"),
        (UNKNOWN + piece(b"a", kind=9), "kind 9"),
        (UNKNOWN + piece(b"\xff"), "utf-8"),
        (UNKNOWN + piece(b""), "a piece of 0 bytes"),
        (UNKNOWN + piece(b"<0x41>", kind=6), "1 pieces are bytes"),
        (UNKNOWN + chunk(2, varint(3 << 3) + varint(7)), "model type is 7"),
        (UNKNOWN + chunk(2, chunk(3, b"xx")), "bytes where a number belongs"),
        (UNKNOWN + chunk(3, chunk(2, b"\xff\xff\xff\xff1234")), "trie claims"),
    ],
)
def test_each_fault_is_named(data: bytes, pattern: str, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(data)
    with pytest.raises(CorruptArtifact, match=pattern) as error:
        Tokenizer.load(tmp_path)
    assert "spiece.model" in error.value.message


def test_every_cut_and_many_flipped_bits_are_refused_or_harmless(model: bytes, tmp_path: Path) -> None:
    whole = parse_sentencepiece(model)
    chance = random.Random(5)
    refused = []
    table = model.index(whole.charsmap)
    places = [chance.randrange(len(model)) for _ in range(16)] + [table + i for i in range(0, 160, 10)]
    for number, place in enumerate(places):
        data = bytearray(model)
        data[place] ^= 1 << chance.randrange(8)
        path = tmp_path / str(number)
        path.mkdir()
        (path / "spiece.model").write_bytes(data)
        try:
            Tokenizer.load(path).encode(TEXT)
        except UserError as error:
            refused.append(error.message)
    assert len(refused) > 5
    assert all("spiece.model" in message for message in refused)
    for cut in range(0, len(model), len(model) // 40):
        with pytest.raises(ValueError, match=r"."):
            parse_sentencepiece(model[:cut] + b"\x0a")  # the first byte of another field


def trie(units: list[int], replacements: bytes = b"a\x00") -> bytes:
    padded = units + [0] * (-len(units) % 256)
    return struct.pack("<I", 4 * len(padded)) + np.array(padded, "<u4").tobytes() + replacements


def unit(label: int, offset: int, has_leaf: bool = False) -> int:
    return offset << 10 | has_leaf << 8 | label


def test_a_table_of_one_letter_is_valid_and_altered_ones_are_refused() -> None:
    root, letter = unit(0, 1), 1 ^ ord("x")  # the root's children begin at unit 1; x leads on to unit 128
    units = [0] * 256
    units[0], units[letter] = root, unit(ord("x"), letter ^ 128, has_leaf=True)
    units[128] = 1 << 31 | 0
    check_charsmap(trie(units))
    for place, value, pattern in (
        (letter, unit(ord("x"), 1 << 20, has_leaf=True), "outside its array"),
        (0, unit(0, 1 << 20), "outside its array"),
        (128, 1 << 31 | 99, "outside its block"),
    ):
        invalid = list(units)
        invalid[place] = value
        with pytest.raises(ValueError, match=pattern):
            check_charsmap(trie(invalid))
    with pytest.raises(ValueError, match="utf-8"):
        check_charsmap(trie(units, b"\xff\x00"))


def test_a_table_that_loops_ends() -> None:
    units = [0] * 256
    units[0] = unit(0, 1)
    place = 1 ^ ord("x")
    units[place] = unit(ord("x"), place ^ 1)  # x leads back to where x is looked for
    check_charsmap(trie(units))


def test_a_crafted_table_in_a_tokenizer_json_is_refused(tmp_path: Path) -> None:
    table = base64.b64encode(trie([unit(0, 1 << 20)])).decode()
    described = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Precompiled", "precompiled_charsmap": table}],
        },
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.json.*normalization table"):
        Tokenizer.load(tmp_path)
