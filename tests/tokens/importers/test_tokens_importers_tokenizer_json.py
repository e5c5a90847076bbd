"""A tokenizer.json as publishers wrote it, years ago too, and the check of an import's tokenizer."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken

from parakit.common import UserError
from parakit.tokens import Tokenizer, compile_chat
from parakit.tokens.importers.sample_check import SAMPLES, check_sample
from parakit.tokens.tokenizer.fast_encoding import TiktokenEncoder

transformers = pytest.importorskip("transformers")

LEARN = ["The cat sat on the mat, unaffable as ever; it didn't say: 12345 cats!"] * 9


@pytest.fixture(scope="module")
def published() -> dict:
    """A small byte BPE as a parsed tokenizer.json."""
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(LEARN, vocab_size=300, show_progress=False)
    return json.loads(trained.to_str())


def write(folder: Path, content: dict, **settings: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_a_file_from_before_2022_is_read_and_saved_complete(published: dict, tmp_path: Path) -> None:
    old = json.loads(json.dumps(published))
    for step in ("pre_tokenizer", "decoder", "post_processor"):
        (old[step] or {}).pop("use_regex", None)
    for name in ("type", "byte_fallback", "ignore_merges", "fuse_unk"):
        old["model"].pop(name, None)
    old["model"]["merges"] = [" ".join(pair) for pair in published["model"]["merges"]]
    actual = Tokenizer.load(write(tmp_path / "old", old))
    check_sample(actual, "old")
    assert isinstance(actual._encoder, TiktokenEncoder)
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "old" / "tokenizer.json"))
    assert [actual.encode(text) for text in SAMPLES] == [reference(text)["input_ids"] for text in SAMPLES]
    actual.save(tmp_path / "new")
    saved = json.loads((tmp_path / "new" / "tokenizer.json").read_text())
    assert saved["pre_tokenizer"]["use_regex"] is True
    assert Tokenizer.load(tmp_path / "new").digest == actual.digest


def test_gpt_neox_own_file_gives_transformers_ids(public_data: Callable[[str], Path], tmp_path: Path) -> None:
    data = gzip.decompress((public_data("tok_neox") / "20B_tokenizer.json.gz").read_bytes())
    (tmp_path / "tokenizer.json").write_bytes(data)
    actual = Tokenizer.load(tmp_path)
    check_sample(actual, "neox")
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    samples = (public_data("tok_llamacpp_vectors") / "all.gguf.inp").read_text("utf-8")
    for text in [*SAMPLES, *samples.split("\n__ggml_vocab_test__\n"), "    def f():\n        return"]:
        assert actual.encode(text) == reference(text)["input_ids"], text
        assert actual.decode(actual.encode(text)) == actual.normalize(text)


def test_an_added_token_that_looks_like_a_byte_keeps_its_text(published: dict, tmp_path: Path) -> None:
    whole = tokenizers.Tokenizer.from_str(json.dumps(published))
    whole.add_tokens(["½", "õ", "Grüße", AddedToken("  ", normalized=False), "▁▁", "<h1>"])
    actual = Tokenizer.load(write(tmp_path, json.loads(whole.to_str())))
    for text in ("a ½ cup, viele Grüße", "  õ", "<h1>▁▁"):
        assert actual.encode(text) == whole.encode(text).ids
        assert actual.decode(actual.encode(text)) == text
    assert not actual.control_ids


def test_dropout_is_switched_off(published: dict, tmp_path: Path) -> None:
    content = published | {"model": published["model"] | {"dropout": 0.5}}
    actual = Tokenizer.load(write(tmp_path, content))
    plain = tokenizers.Tokenizer.from_str(json.dumps(published))
    assert all(actual.encode(text) == plain.encode(text).ids for text in SAMPLES)
    assert actual.parsed_json["model"]["dropout"] is None


def test_markers_take_the_spaces_that_their_flags_name(published: dict, tmp_path: Path) -> None:
    whole = tokenizers.Tokenizer.from_str(json.dumps(published))
    flagged = [AddedToken("<|user|>", rstrip=True), AddedToken("<|bot|>", rstrip=True, lstrip=True)]
    whole.add_special_tokens([*flagged, "<|end|>"])
    template = (
        "{% for m in messages %}{{ '<|user|>\n' if m.role == 'user' else ' <|bot|>\n' }}{{ m.content }}<|end|>\n"
        "{% endfor %}"
    )
    folder = write(tmp_path, json.loads(whole.to_str()), chat_template=template)
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    talk = [{"role": "user", "content": "The cat?"}, {"role": "assistant", "content": "It sat."}]
    expected = reference.apply_chat_template(talk, return_dict=False)
    assert compile_chat(Tokenizer.load(folder), talk).token_ids == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": None}, "turns .The quick"),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "2024"}, "content": ""}}, None),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "turns"),
    ],
)
def test_an_import_checks_that_texts_come_back(
    published: dict, tmp_path: Path, change: dict, message: str | None
) -> None:
    tokenizer = Tokenizer.load(write(tmp_path, published | change))
    if message is None:  # the normalizer explains what is lost
        check_sample(tokenizer, "there")
        return
    with pytest.raises(UserError, match=f"there: its tokenizer {message}") as error:
        check_sample(tokenizer, "there")
    assert "fetch them again" in error.value.hint


def test_a_crash_and_a_vocabulary_of_nothing_are_named(published: dict, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write(tmp_path / "a", published))
    tokenizer.__dict__["vocab_size"] = 10
    with pytest.raises(UserError, match=r"fails on .* an id outside the vocabulary of 10"):
        check_sample(tokenizer, "there")
    nothing = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "ᚠ": 1}, unk_token="[UNK]"))
    nothing.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = write(tmp_path / "b", json.loads(nothing.to_str()), unk_token="[UNK]")
    with pytest.raises(UserError, match="knows no character"):
        check_sample(Tokenizer.load(folder), "there")
