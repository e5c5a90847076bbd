"""`parakit distill`: a teacher in, a smaller model out."""

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


@pytest.fixture(scope="module")
def teacher(tiny_build):
    return tiny_build / "pretrain"


def test_a_student_is_made_from_conversations_and_the_teacher_is_not_changed(
    capsys, teacher, chats, tmp_path
):
    before = open_artifact(teacher)
    out = tmp_path / "student"
    arguments = ["distill", teacher, "--conversations", chats, "--output", out, "--keep-layers", 1, *QUICK]
    status, printed, err = run(capsys, *arguments, "--json")
    assert status == 0
    figures = json.loads(printed)
    assert figures["steps"] == 2
    assert figures["config"]["n_layers"] == 1
    assert figures["share_of_parameters"] < 1
    assert figures["teacher"]["parameters"] > figures["parameters"]
    assert f"parakit chat {out}" in err
    student = open_artifact(out, "model")
    assert student.lineage["config"]["chat"] is True
    assert {parent["kind"] for parent in student.lineage["parents"]} == {"model", "shards"}
    assert before.digest in [parent["digest"] for parent in student.lineage["parents"]]
    assert open_artifact(teacher).digest == before.digest
    assert {path.name for path in tmp_path.iterdir()} == {"student", "chats.jsonl"}
    assert (out / "training" / "metrics.jsonl").is_file()


def test_a_fresh_student_of_a_size_learns_from_answers_that_are_kept(capsys, tiny_build, teacher, tmp_path):
    kept, shards = tmp_path / "answers", tiny_build / "shards"
    flags = ["--shards", shards, "--teacher-logits", kept, "--cache-top-k", "5", *QUICK]
    fresh = ["--size", "40k", "--may-be-larger"]
    status, _, err = run(capsys, "distill", teacher, "--output", tmp_path / "one", *flags, *fresh)
    assert status == 0, err
    written = open_artifact(kept, "teacher_logits")
    assert written.lineage["config"]["top_k"] == 5
    assert {parent["kind"] for parent in written.lineage["parents"]} == {"model", "shards"}
    assert run(capsys, "distill", teacher, "--output", tmp_path / "two", *flags)[0] == 0
    assert open_artifact(kept).digest == written.digest
    flags += ["--distill-temperature", "2"]
    status, _, err = run(capsys, "distill", teacher, "--output", tmp_path / "three", *flags)
    assert status == 2
    assert "distill_temperature = 1.0" in err
    assert not (tmp_path / "three").exists()


def test_a_student_answers_itself(capsys, teacher, chats, tmp_path):
    flags = [
        "--on-policy-share",
        "0.5",
        "--max-new-tokens",
        "3",
        "--hidden-coef",
        "1",
        *QUICK,
    ]
    arguments = ["distill", teacher, "--conversations", chats, "--output", tmp_path / "student", *flags]
    status, printed, err = run(capsys, *arguments, "--keep-layers", "1", "--json")
    assert status == 0, err
    assert json.loads(printed)["skipped_steps"] == 0


def test_an_encoder_teaches_an_encoder_of_some_of_its_layers(capsys, tiny_build, tmp_path):
    tokenizer, corpus, shards = tmp_path / "tokenizer", tiny_build / "corpus", tmp_path / "shards"
    encoder = ["--family", "encoder"]
    made = ["--tokenizer", tokenizer, "--output", tmp_path / "teacher", "--max-seq-len", 32, "--size", "80k"]
    for words in (
        ["tokenizer", "train", corpus, "--output", tokenizer, "--vocab-size", 330],
        ["tokenizer", "encode", tokenizer, corpus, "--output", shards, *encoder],
        ["pretrain", shards, *made, *encoder, *QUICK],
    ):
        status, _, err = run(capsys, *words)
        assert status == 0, err
    taught = ["--hidden-coef", "1", "--distill-temperature", "2", "--keep-layers", "1", "--noise-rate", "0.2"]
    arguments = ["distill", tmp_path / "teacher", "--shards", shards, "--output", tmp_path / "student"]
    status, printed, err = run(capsys, *arguments, *taught, *QUICK, "--json")
    assert status == 0, err
    figures = json.loads(printed)
    assert figures["family"] == "encoder"
    assert figures["loss_unit"] == figures["teacher"].get("loss_unit", "nats per masked token")
    status, _, err = run(
        capsys, "distill", tmp_path / "teacher", "--conversations", "chats.jsonl", "--output", tmp_path / "x"
    )
    assert status == 2
    assert "cannot learn from conversations" in err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--shards", "SHARDS", "--conversations", "chats.jsonl"], "both were named"),
        ([], "neither was named"),
        (["--shards", "SHARDS", "--size", "40k", "--keep-layers", "1"], "--keep-layers and --size"),
        (["--shards", "SHARDS", "--size", "90k"], "--may-be-larger"),
        (["--shards", "SHARDS", "--keep-layers", "9"], "keep_layers = 9"),
        (["--shards", "SHARDS", "--teacher-share", "0.3"], "--teacher-share is set"),
        (["--shards", "SHARDS", "--momentum", "0.3", "--optimizer", "adamw"], "--momentum is set"),
        (["--shards", "SHARDS", "--noise-rate", "0.3"], "--noise-rate is set"),
        (["--shards", "SHARDS", "--on-policy-share", "0.5"], "plain text has no questions"),
        (
            ["--shards", "SHARDS", "--hidden-coef", "1", "--cache-top-k", "4"],
            "--hidden-coef = 1.0 runs the teacher",
        ),
        (
            ["--shards", "SHARDS", "--hard-label-share", "1", "--divergence", "reverse"],
            "does not use the teacher",
        ),
        (["--shards", "absent"], "absent"),
        (["--conversations", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_a_mistake_leaves_nothing(capsys, tiny_build, teacher, chats, tmp_path, monkeypatch, flags, told):
    monkeypatch.chdir(tmp_path)
    flags = [str(tiny_build / "shards") if flag == "SHARDS" else flag for flag in flags]
    status, out, err = run(capsys, "distill", teacher, "--output", "new/student", *QUICK, *flags)
    assert (status, out) == (2, "")
    assert told in err
    assert {path.name for path in tmp_path.iterdir()} == {"chats.jsonl"}


def test_a_student_with_another_tokenizer_is_refused_by_name(capsys, teacher, text, tmp_path, tiny):
    assert main(["build", "--text", str(text), "--builds", str(tmp_path), "--name", "other",
                 "--set", *tiny, "tokenizer.vocab_size=330"]) == 0  # fmt: skip
    other = tmp_path / "other" / "pretrain"
    flags = ["--shards", teacher.parent / "shards", "--may-be-larger", *QUICK]
    status, _, err = run(
        capsys, "distill", teacher, "--student", other, "--output", tmp_path / "student", *flags
    )
    assert status == 2
    assert "different tokenizers" in err
    assert str(teacher) in err
    assert str(other) in err
    assert not (tmp_path / "student").exists()


def test_shards_of_another_tokenizer_are_refused(capsys, teacher, text, tmp_path, tiny):
    assert main(["build", "--text", str(text), "--builds", str(tmp_path), "--name", "other",
                 "--set", *tiny, "tokenizer.vocab_size=330"]) == 0  # fmt: skip
    flags = ["--shards", tmp_path / "other" / "shards", *QUICK]
    status, _, err = run(capsys, "distill", teacher, "--output", tmp_path / "student", *flags)
    assert status == 2
    assert "tokenizer" in err
    assert not (tmp_path / "student").exists()
