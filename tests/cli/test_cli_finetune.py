"""`parakit finetune`: conversations in, a model that answers out."""

from __future__ import annotations

import json

import pytest

from parakit.cli.main import main
from parakit.common import open_artifact
from parakit.data.conversations.sets import iter_conversations, prepare_conversations

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


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (None, "2 answers cut, 1 left out, of which no answer is left"),
        ("drop", "3 left out (too_long: drop)"),
        ("refuse", "have over 32 tokens"),
    ],
)
def test_conversations_that_are_too_long_are_cut_left_out_or_refused_and_counted(
    capsys, tiny_build, chats, tmp_path, rule, told
):
    """The line comes once, before the doctor's; nobody else blames the template or the data."""
    rows, long = chats.read_text().splitlines(), "the old bird sees the river " * 30
    for question, answer in (("who?", long), ("what?", long), (long, "a bird")):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows += [json.dumps({"messages": turns})]
    (tmp_path / "long.jsonl").write_text("".join(f"{row}\n" for row in rows))
    conversations = prepare_conversations(
        [str(tmp_path / "long.jsonl")], tmp_path / "c", validation_fraction=0.1
    )
    in_train = [
        c for c in iter_conversations(conversations, "train") if any(len(m.content) > 300 for m in c.messages)
    ]
    arguments = ["finetune", tiny_build / "pretrain", "--conversations", conversations]
    arguments += ["--output", tmp_path / "tuned", *QUICK, *(["--too-long", rule] if rule else []), "--json"]
    status, printed, err = run(capsys, *arguments)
    assert len(in_train) == 3, "the three are to be in the training split"
    assert (status, told in err) == (2 if rule == "refuse" else 0, True), err
    if rule == "refuse":
        assert "seq_len" not in err  # the model reads no more
        assert "set too_long: truncate or drop" in err
        return
    assert err.count("have over 32 tokens") == 1
    assert err.index("have over 32 tokens") < err.index("the doctor ran")
    counts = json.loads(printed)["long_rows"]["train"]
    assert (counts["too_long"], counts["answers_cut"], counts["left_out"]) == (
        (3, 0, 3) if rule else (3, 2, 1)
    )
