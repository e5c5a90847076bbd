"""Sets of conversations: complete, without duplicates, split by their own digests."""

import json
from pathlib import Path

import pytest

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message, write_conversations
from parakit.data.conversations.sets import iter_conversations, prepare_conversations
from parakit.data.splits import split_of
from parakit.primer.config import PrimerConfig
from parakit.primer.sources import primer_conversations


def conversation(k: int) -> Conversation:
    return Conversation((Message("user", f"What is {k} plus one?"), Message("assistant", f"It is {k + 1}.")))


def write(path: Path, numbers: range) -> str:
    write_conversations(path, map(conversation, numbers))
    return str(path)


def test_conversations_are_split_by_their_digest_and_duplicates_counted(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.jsonl", range(200)), write(tmp_path / "b.jsonl", range(150, 300))]
    path = prepare_conversations(paths, tmp_path / "set", validation_fraction=0.1)
    read = {split: list(iter_conversations(path, split)) for split in ("train", "validation")}
    assert {c for conversations in read.values() for c in conversations} == set(map(conversation, range(300)))
    for split, conversations in read.items():
        assert all(split_of(c.digest, 0.1, 0) == split for c in conversations)
    report = json.loads((path / "report.json").read_text())
    assert report["duplicates"] == 50
    assert report["splits"] == {split: len(conversations) for split, conversations in read.items()}


def test_a_folder_gives_its_json_lines(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "b.jsonl", range(40))
    write(tmp_path / "in" / "a.ndjson", range(40, 80))
    (tmp_path / "in" / "notes.txt").write_text("not a conversation")
    path = prepare_conversations([str(tmp_path / "in")], tmp_path / "set")
    assert sum(len(list(iter_conversations(path, split))) for split in ("train", "validation")) == 80


def test_a_small_set_widens_its_validation_share_and_says_so(tmp_path: Path) -> None:
    path = prepare_conversations(
        [write(tmp_path / "a.jsonl", range(8))], tmp_path / "set", validation_fraction=0.001
    )
    assert list(iter_conversations(path, "validation"))
    assert json.loads((path / "report.json").read_text())["validation_fraction"] > 0.001


def test_no_validation_is_a_choice(tmp_path: Path) -> None:
    path = prepare_conversations(
        [write(tmp_path / "a.jsonl", range(8))], tmp_path / "set", validation_fraction=0
    )
    assert len(list(iter_conversations(path, "train"))) == 8


def test_what_cannot_be_tuned_on_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    silent = tmp_path / "silent.jsonl"
    write_conversations(silent, [conversation(1), Conversation((Message("user", "Hello?"),))])
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    for paths, says in (
        ([silent], "row 2: has no assistant turn"),
        ([empty], "empty"),
        ([tmp_path / "none.jsonl"], "no such file"),
        ([], "cannot be split"),
        ([Path(write(tmp_path / "one.jsonl", range(1)))], "1 different conversations cannot be split"),
    ):
        with pytest.raises(UserError, match=says):
            prepare_conversations([str(path) for path in paths], tmp_path / "set")
        assert not (tmp_path / "set").exists()


def test_the_primer_gives_conversations(tmp_path: Path) -> None:
    path = prepare_conversations(primer_conversations(PrimerConfig(n_conversations=200)), tmp_path / "set")
    assert len(list(iter_conversations(path, "train"))) > 100
    assert open_artifact(path, "conversations").lineage["config"]["primer"]["n_conversations"] == 200
