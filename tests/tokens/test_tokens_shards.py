"""Token shards: what is written is what is read, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from parakit.common.errors import CorruptArtifact, UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.documents import Document
from parakit.tokens import Tokenizer, TokenShards, compile_chat, write_shards
from parakit.tokens.tokenizer.special_tokens import SpecialTokens

TEXTS = ["the cat sat.", "", "hello to 7 <|eos|> dogs\n\n", "été 你好"]


def documents(texts: list[str]) -> list[Document]:
    return [Document(text, "a test", len(text.encode()) + 1) for text in texts]


def conversations() -> list[Conversation]:
    return [
        Conversation((Message("user", text), Message("assistant", answer)))
        for text, answer in zip(TEXTS, ["yes", "", "no 你", "ok"], strict=True)
    ]


def test_documents_stand_between_bos_and_eos(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    write_shards({"train": documents(TEXTS), "test": []}, byte_bpe, tmp_path / "shards")
    shards = TokenShards.open(tmp_path / "shards", "train")
    expected = [[byte_bpe.bos_id, *byte_bpe.encode(text), byte_bpe.eos_id] for text in TEXTS]
    assert isinstance(shards.token_ids, np.memmap)
    assert shards.token_ids.dtype == np.uint16
    assert [
        shards.token_ids[a:b].tolist() for a, b in zip(shards.offsets, shards.offsets[1:], strict=False)
    ] == expected
    assert shards.n_bytes == sum(len(text.encode()) + 1 for text in TEXTS)
    assert shards.n_documents == 4
    assert shards.n_counted == shards.n_tokens - 4
    assert (shards.pad_id, shards.vocab_size) == (byte_bpe.pad_id, byte_bpe.vocab_size)
    assert shards.tokenizer_digest == byte_bpe.digest
    empty = TokenShards.open(tmp_path / "shards", "test")
    assert (empty.n_documents, empty.n_tokens, empty.n_counted) == (0, 0, 0)


def test_conversations_bring_their_loss_mask(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    write_shards({"train": conversations()}, byte_bpe, tmp_path / "shards")
    shards = TokenShards.open(tmp_path / "shards", "train")
    compiled = [compile_chat(byte_bpe, conversation) for conversation in conversations()]
    assert shards.token_ids.tolist() == [i for one in compiled for i in one.token_ids]
    assert shards.loss_mask.astype(bool).tolist() == [counts for one in compiled for counts in one.loss_mask]
    assert shards.n_bytes == sum(len(text.encode()) for text in ("yes", "", "no 你", "ok"))
    assert shards.n_counted == sum(sum(one.loss_mask) for one in compiled)


def test_a_large_vocabulary_takes_four_bytes(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    parsed_json = json.loads(byte_bpe.json)
    parsed_json["model"]["vocab"]["far"] = 70_000
    large = Tokenizer(json.dumps(parsed_json), kind="byte_bpe", special=byte_bpe.special)
    write_shards({"train": documents(TEXTS)}, large, tmp_path / "shards")
    shards = TokenShards.open(tmp_path / "shards", "train")
    assert shards.token_ids.dtype == np.uint32
    assert byte_bpe.decode(shards.token_ids.tolist()) == "".join(TEXTS)


def test_many_chunks_are_one_split(
    byte_bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards({"train": documents(TEXTS * 20)}, byte_bpe, tmp_path / "one")
    monkeypatch.setattr("parakit.tokens.shards._CHARS_PER_CHUNK", 300)
    write_shards({"train": iter(documents(TEXTS * 20))}, byte_bpe, tmp_path / "many")
    for file in ("train.bin", "train.offsets.npy", "index.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()


@pytest.mark.parametrize("file", ["train.bin", "train.offsets.npy", "train.loss_mask.bin", "index.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_named(byte_bpe: Tokenizer, tmp_path: Path, file: str, damage: str) -> None:
    write_shards({"train": conversations()}, byte_bpe, tmp_path / "shards")
    path = tmp_path / "shards" / file
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.unlink() if damage == "remove" else path.write_bytes(data[:-1] if damage == "cut" else data)
    with pytest.raises(CorruptArtifact, match=file.replace(".", r"\.")):
        TokenShards.open(tmp_path / "shards", "train")
    if damage != "flip" and file != "index.json":
        with pytest.raises(CorruptArtifact, match=file.replace(".", r"\.")):
            TokenShards.open(tmp_path / "shards", "train", verify=False)


def test_a_failure_leaves_nothing_behind(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    def failing():
        yield from documents(TEXTS)
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError):
        write_shards({"train": failing()}, byte_bpe, tmp_path / "shards")
    assert list(tmp_path.iterdir()) == []
    write_shards({"train": documents(TEXTS)}, byte_bpe, tmp_path / "shards")
    with pytest.raises(UserError, match="exists already"):
        write_shards({"train": []}, byte_bpe, tmp_path / "shards")
    assert TokenShards.open(tmp_path / "shards", "train").n_documents == 4


def test_mistakes_are_told(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mixes documents and conversations"):
        write_shards({"train": [*documents(TEXTS), *conversations()]}, byte_bpe, tmp_path / "shards")
    without = Tokenizer(byte_bpe.json, kind="byte_bpe", special=SpecialTokens({}))
    with pytest.raises(UserError, match="no EOS"):
        write_shards({"train": documents(TEXTS)}, without, tmp_path / "shards")
    write_shards({"train": documents(TEXTS)}, byte_bpe, tmp_path / "shards")
    with pytest.raises(UserError, match="no split 'validation'"):
        TokenShards.open(tmp_path / "shards", "validation")
