"""Published vocabularies give the published ids."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common.errors import CorruptArtifact, UserError
from parakit.tokens import Tokenizer
from parakit.tokens.importers.published import published_tokenizer
from parakit.tokens.tokenizer.fast_encoding import TiktokenEncoder
from tests.short_suite import shortened

LONGER = {
    "gpt2": "tokens_gpt2.json",
    "r50k_base": "tokens_gpt2.json",
    "p50k_base": "tokens_p50k_base.json",
    "p50k_edit": "tokens_p50k_edit.json",
    "cl100k_base": "tokens_gpt_3.5_turbo.json",
    "o200k_base": "tokens_gpt_4o.json",
}
GREETINGS = {"gpt2": [15496, 995], "cl100k_base": [9906, 1917], "o200k_base": [13225, 2375]}


@shortened("name", list(LONGER), ("gpt2", "p50k_edit", "cl100k_base"))
def test_published_vectors_agree(name: str, public_data: Callable[[str], Path], tmp_path: Path) -> None:
    vectors = public_data("tok_tiktoken_vectors")
    tokenizer = published_tokenizer(public_data("tok_gpt2" if name == "gpt2" else "tok_tiktoken"), name)
    assert isinstance(tokenizer._encoder, TiktokenEncoder)
    text = (vectors / "lib.rs.txt").read_bytes().decode()
    token_ids = json.loads((vectors / LONGER[name]).read_text())
    assert tokenizer.encode(text) == token_ids
    assert tokenizer.decode(token_ids) == text
    if name in GREETINGS:
        assert tokenizer.encode("Hello world") == GREETINGS[name]
    plans = _plans(vectors, name)
    assert name == "gpt2" or len(plans) > 50
    for sample, expected in plans:
        assert tokenizer.encode(sample) == expected, sample
    assert not set(tokenizer.encode("<|endoftext|><|fim_prefix|>")) & tokenizer.control_ids
    if name == "gpt2":
        tokenizer.save(tmp_path)
        loaded = Tokenizer.load(tmp_path)
        assert loaded.encode("Hello world") == [15496, 995]
        assert loaded.eos_id == loaded.bos_id == 50256
        assert loaded.pad_id is None


def test_all_313_vectors_were_read(public_data: Callable[[str], Path]) -> None:
    vectors = public_data("tok_tiktoken_vectors")
    assert sum(len(_plans(vectors, name)) for name in LONGER) == 313


def _plans(vectors: Path, name: str) -> list[tuple[str, list[int]]]:
    text = (vectors / "TestPlans.txt").read_bytes().decode()
    found = re.findall(r"EncodingName: (\S+)\nSample: (.*?)\nEncoded: (\[.*?\])\n", text, re.DOTALL)
    return [(sample, json.loads(ids)) for encoding, sample, ids in found if encoding == name]


def test_an_unknown_name_and_a_missing_or_damaged_file_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'cl100k_base'"):
        published_tokenizer(tmp_path, "cl100k")
    with pytest.raises(UserError, match="holds no r50k_base"):
        published_tokenizer(tmp_path, "r50k_base")
    (tmp_path / "r50k_base.tiktoken").write_text("IQ== 0\nnot base64 at all\n")
    with pytest.raises(CorruptArtifact, match="r50k_base"):
        published_tokenizer(tmp_path, "r50k_base")
    (tmp_path / "cl100k_base.tiktoken.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(CorruptArtifact, match="cl100k_base"):
        published_tokenizer(tmp_path, "cl100k_base")
