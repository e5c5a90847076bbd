"""Tokenizers of GGUF files: ids, special tokens, templates and stop tokens against `tokenizers` and sentencepiece."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter, TokenType

from parakit.checkpoints.gguf.pre_tokenizers import SPLITTINGS
from parakit.checkpoints.gguf.reader import read_gguf
from parakit.checkpoints.gguf.tokenizer import ConvertedTokenizer, convert_tokenizer
from parakit.common import UserError
from tests.checkpoints.gguf.gguf_files import (
    CONTROL_TOKENS,
    TEMPLATE,
    add_byte_bpe,
    byte_bpe,
    sentencepiece_bpe_file,
)
from tests.sample_text import sentences

tokenizers = pytest.importorskip("tokenizers")
TEXTS = [
    "",
    " ",
    "the bird  sees\n\n a tree.",
    "It's 12345 or 1,5",
    "\u00e9 \u4f60\u597d \U0001f600",
    "<|im_start|>",
]
Fields = Callable[[GGUFWriter], None]


def converted(folder: Path, fields: Fields) -> ConvertedTokenizer:
    path = folder / "tokenizer.gguf"
    writer = GGUFWriter(path, "llama")
    fields(writer)
    writer.add_tensor("one", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return convert_tokenizer(read_gguf(path), 64)


def as_tokenizer(found: ConvertedTokenizer):
    return tokenizers.Tokenizer.from_str(json.dumps(found.tokenizer))


def test_a_byte_bpe_gives_the_ids_it_was_trained_with(tmp_path: Path) -> None:
    def fields(writer: GGUFWriter) -> None:
        add_byte_bpe(writer, n_padding=4)
        writer.add_chat_template(
            [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "x"}]
        )
        writer.add_eot_token_id(0)
        writer.add_uint32("tokenizer.ggml.fim_pre_token_id", 5)

    found, original = converted(tmp_path, fields), byte_bpe()
    mine = as_tokenizer(found)
    assert mine.get_vocab_size() == original.get_vocab_size()  # the padding is no token
    for text in [*TEXTS, sentences(7, 5)]:
        assert mine.encode(text).ids == original.encode(text).ids, text
        assert mine.decode(mine.encode(text).ids) == original.decode(original.encode(text).ids)
    assert [token["content"] for token in found.tokenizer["added_tokens"]] == CONTROL_TOKENS
    assert found.settings["bos_token"] == "<|im_start|>"
    assert found.settings["pad_token"] == "<|endoftext|>"
    assert found.chat_template == TEMPLATE
    assert found.generation == {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": [2, 0]}
    assert found.dropped == ("tokenizer.chat_template.tool_use", "tokenizer.ggml.fim_pre_token_id")


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["It", "'s", " 12345", "  ", " x", " \n"]),
        ("smollm", ["It", "'s", " ", "1", "2", "3", "4", "5", "  ", " x", " \n"]),
        ("llama-bpe", ["It", "'s", " ", "123", "45", "  ", " x", " \n"]),
        ("qwen2", ["It", "'s", " ", "1", "2", "3", "4", "5", "  ", " x", " \n"]),
        ("tekken", ["It", "'s", " ", "1", "2", "3", "4", "5", "  ", " x", " \n"]),
        ("default", ["It", "'", "s", " ", "123", "45", "  ", " x", " \n"]),
    ],
)
def test_text_is_split_as_the_name_says(pre: str, pieces: list[str]) -> None:
    text = "It's 12345   x \n"
    spans = [text[start:stop] for _, (start, stop) in splitter(pre).pre_tokenize_str(text)]
    assert spans == pieces


def splitter(pre: str):
    """The pre-tokenizer of `tokenizers` that a name stands for."""
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    parsed = {"version": "1.0", "added_tokens": [], "pre_tokenizer": SPLITTINGS[pre].pre_tokenizer()}
    model = {"type": "BPE", "vocab": {}, "merges": []}
    return tokenizers.Tokenizer.from_str(json.dumps(parsed | empty | {"model": model})).pre_tokenizer


def test_every_splitting_is_readable() -> None:
    for name in SPLITTINGS:
        assert splitter(name).pre_tokenize_str(sentences(3, 2) + TEXTS[4]), name


def test_bos_is_added_where_the_file_or_its_kind_says_so(tmp_path: Path) -> None:
    def fields(pre: str, add_bos: bool | None = None) -> Fields:
        def write(writer: GGUFWriter) -> None:
            add_byte_bpe(writer, pre=pre)
            if add_bos is not None:
                writer.add_add_bos_token(add_bos)
                writer.add_add_eos_token(add_bos)

        return write

    assert as_tokenizer(converted(tmp_path, fields("gpt-2"))).encode("the").ids[0] != 1
    assert as_tokenizer(converted(tmp_path, fields("llama-bpe"))).encode("the").ids[0] == 1
    assert as_tokenizer(converted(tmp_path, fields("llama-bpe", False))).encode("the").ids[0] != 1
    both = as_tokenizer(converted(tmp_path, fields("gpt-2", True)))
    ids = both.encode("the").ids
    assert (ids[0], ids[-1]) == (1, 2)
    assert both.encode("the", "a").ids.count(1) == 2


@pytest.fixture(scope="module")
def sentencepiece_bpe():
    """A Llama-like sentencepiece model, trained here."""
    sentencepiece = pytest.importorskip("sentencepiece")
    return sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_bpe_file())


def test_a_sentencepiece_vocabulary_gives_sentencepieces_ids(sentencepiece_bpe, tmp_path: Path) -> None:
    sp = sentencepiece_bpe
    n = sp.get_piece_size()

    def fields(writer: GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([*(sp.id_to_piece(i) for i in range(n)), "<|turn|>", "<tool>", "<unused0>"])
        writer.add_token_scores([*(sp.get_score(i) for i in range(n)), -1000.0, -1000.0, -1000.0])
        kinds = [
            TokenType.UNKNOWN
            if sp.is_unknown(i)
            else TokenType.CONTROL
            if sp.is_control(i)
            else TokenType.BYTE
            if sp.is_byte(i)
            else TokenType.NORMAL
            for i in range(n)
        ]
        writer.add_token_types([*kinds, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED])

    found = converted(tmp_path, fields)
    mine = as_tokenizer(found)
    for text in ["the bird  sees a tree", "\u00e9 \u4f60 12", " x ", sentences(9, 4)]:
        assert mine.encode(text).ids == [sp.bos_id(), *sp.encode(text)], text
        assert mine.decode(mine.encode(text).ids) == sp.decode(sp.encode(text))
    assert mine.encode("a<tool>").ids[-1] == n + 1
    special = {token["content"]: token["special"] for token in found.tokenizer["added_tokens"]}
    assert special == {"<unk>": True, "<s>": True, "</s>": True, "<|turn|>": True, "<tool>": False}
    assert found.generation == {"bos_token_id": 1, "eos_token_id": 2}


def test_faults_of_tokenizers_are_named(tmp_path: Path) -> None:
    def changed(change: Fields) -> Fields:
        def write(writer: GGUFWriter) -> None:
            add_byte_bpe(writer)
            change(writer)

        return write

    def replace(key: str, value) -> Fields:
        def change(writer: GGUFWriter) -> None:
            del writer.kv_data[0][key]
            if isinstance(value, list):
                writer.add_array(key, value)
            elif value is not None:
                (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)

        return change

    prefix = "tokenizer.ggml."
    cases = {
        "splitting|not know": replace(f"{prefix}pre", "smolm"),
        "kind 'bert'": replace(f"{prefix}model", "bert"),
        "holds no tokenizer": replace(f"{prefix}model", None),
        "no merge of two tokens": replace(f"{prefix}merges", ["t h", "nothing"]),
        "no list of str": replace(f"{prefix}merges", [1, 2]),
        "token types": replace(f"{prefix}token_type", [1, 1]),
        "twice": replace(f"{prefix}tokens", ["a"] * 300),
        "there are 300 tokens": replace(f"{prefix}eos_token_id", 300),
    }
    for message, change in cases.items():
        with pytest.raises(UserError, match=message) as refusal:
            converted(tmp_path, changed(change))
        assert refusal.value.hint, message
