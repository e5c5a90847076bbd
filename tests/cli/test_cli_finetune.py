"""`parakit finetune`: conversations in, a model that answers out."""

from __future__ import annotations

import json

import pytest

from parakit.cli.main import main
from parakit.common import open_artifact

QUICK = ["--max-steps", "2", "--batch-tokens", "128"]


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_a_model_is_tuned_from_files_and_the_base_is_not_changed(capsys, tiny_build, chats, tmp_path):
    base = open_artifact(tiny_build / "pretrain")
    out = tmp_path / "tuned"
    arguments = ["finetune", base.path, "--conversations", chats, "--output", out, *QUICK]
    status, printed, err = run(capsys, *arguments, "--json")
    assert status == 0
    assert json.loads(printed)["steps"] == 2
    assert f"parakit chat {out}" in err
    tuned = open_artifact(out, "model")
    assert tuned.lineage["config"]["chat"] is True
    assert base.digest in [parent["digest"] for parent in tuned.lineage["parents"]]
    assert open_artifact(base.path).digest == base.digest
    assert {path.name for path in tmp_path.iterdir()} == {"tuned", "chats.jsonl"}


def test_a_builds_folder_stands_for_its_model_and_a_conversations_folder_for_its_files(
    capsys, tiny_build, chats, tmp_path
):
    from parakit.data.conversations.sets import prepare_conversations

    folder = prepare_conversations([str(chats)], tmp_path / "conversations")
    arguments = ["finetune", tiny_build, "--conversations", folder, "--output", tmp_path / "tuned", *QUICK]
    assert run(capsys, *arguments)[0] == 0
    assert open_artifact(tmp_path / "tuned", "model").lineage["config"]["stage"] == "finetune"


@pytest.mark.parametrize(
    ("model", "conversations", "flags", "told"),
    [
        ("pretrain", "absent.jsonl", [], "absent.jsonl"),
        ("pretrain", "bad.jsonl", [], "bad.jsonl"),
        ("pretrain", "chats.jsonl", ["--optimizer", "adamw", "--momentum", "0.9"], "--momentum is set"),
        ("corpus", "chats.jsonl", [], "corpus"),
        ("absent", "chats.jsonl", [], "absent"),
    ],
)
def test_a_mistake_leaves_nothing(
    capsys, tiny_build, chats, tmp_path, monkeypatch, model, conversations, flags, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"messages": [{"role": "usr", "content": "hi"}]}\n')
    arguments = ["finetune", tiny_build / model, "--conversations", conversations, "--output", "new/tuned"]
    status, out, err = run(capsys, *arguments, *QUICK, *flags)
    assert (status, out) == (2, "")
    assert told in err
    assert {path.name for path in tmp_path.iterdir()} == {"chats.jsonl", "bad.jsonl"}


def test_no_conversations_at_all(capsys, tiny_build, tmp_path):
    arguments = ["finetune", tiny_build / "pretrain", "--output", tmp_path / "t", "--conversations"]
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "chats.jsonl" in err
    assert list(tmp_path.iterdir()) == []
