"""`parakit build` at the terminal: arguments, exit status, what goes to which stream."""

from __future__ import annotations

import json

import pytest

from parakit.cli.main import main


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_json_is_one_object_on_standard_output(capsys, text, tmp_path, tiny):
    status, out, err = run(
        capsys,
        *("build", "--text", text, "--builds", tmp_path / "b", "--name", "mine", "--json", "--set", *tiny),
    )
    assert status == 0
    assert len(out.splitlines()) == 1
    assert json.loads(out) == json.loads((tmp_path / "b/mine/summary.json").read_text())
    assert "[pretrain] not made yet" in err


def test_without_json_standard_output_is_empty_and_the_way_on_is_told(capsys, tiny_build, tiny):
    text, builds = tiny_build.parents[1] / "text", tiny_build.parent
    command = ("build", "--text", text, "--builds", builds, "--name", "mine", "--set", *tiny)
    status, out, err = run(capsys, *command)
    assert (status, out) == (0, "")
    assert "[pretrain] skipped: up to date" in err
    assert "bits per byte on held-out text" in err
    assert f"report: {tiny_build / 'report.html'}" in err
    assert f"generate text: parakit generate {tiny_build / 'pretrain'}" in err


def test_a_dry_run_tells_what_and_why_and_writes_nothing(capsys, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "build", "--text", "text", "--dry-run")
    assert status == 0
    lines = out.splitlines()
    assert all(line.startswith("run ") for line in lines[:5])
    assert "not made yet" in lines[0]
    assert lines[5].startswith("on this machine")  # what the stage that trains will take
    assert any(line.startswith("pretrain ") and "yes" in line for line in lines[6:])
    status, out, _ = run(capsys, "build", "--text", "text", "--dry-run", "--json")
    planned = json.loads(out)
    assert planned["name"] == "text"
    assert planned["stages"][0] == {"stage": "corpus", "run": True, "reason": "not made yet"}
    plans = {stage["stage"]: stage["plan"] for stage in planned["stages"] if "plan" in stage}
    assert plans["pretrain"]["plan"]["memory"]["peak"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_a_dry_run_without_arguments_is_the_built_in_recipe(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "build", "--dry-run", "--json")
    assert (status, json.loads(out)["name"]) == (0, "primer")
    assert list(tmp_path.iterdir()) == []


def test_repeated_flags_all_count(capsys, text, tmp_path):
    command = ("build", "--text", text / "0.txt", "--text", text / "1.txt", "--dry-run", "--builds", tmp_path)
    status, _, err = run(capsys, *command, "--set", "pretrain.max_stepz=1", "--set", "size=1m")
    assert status == 2
    assert "`max_steps`" in err
    status, _, err = run(capsys, *command, "--text", tmp_path / "absent.txt")
    assert status == 2
    assert "absent.txt" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "pretrain.schedule=cosine", "pretrain.decay_fraction=0.3"], "`pretrain.decay_fraction`"),
        (["--set", "pretrain.optimizer=adamw", "pretrain.momentum=0.9"], "`pretrain.momentum`"),
        (
            ["--set", "pretrain.optimizer=adamw", "pretrain.embedding_learning_rate=0.1"],
            "`pretrain.embedding_learning_rate`",
        ),
        (["--set", "pretrain.max_stpes=3"], "did you mean `max_steps`"),
        (["--set", "tokenizer.vocab_size=lots"], "`tokenizer.vocab_size`"),
        (["--set", "vocab=3"], "unknown key `vocab`"),
        (["--set", "paths=x"], "unknown key `paths`"),
        (["--set", "size.x=3"], "`size`: Input should be a valid string"),
        (["--set", "pretrain.max_steps"], "is not KEY=VALUE"),
        (["--set", "prompts=[a"], "not readable as a YAML value"),
        (["--size", "5q"], "size '5q' is not a parameter count"),
        (["--time", "soon"], "time 'soon' is not a length of time"),
        (["--name", "../up"], "a name is letters"),
        (["--evaluate-text", "absent.txt"], "absent.txt: no such file"),
        (["--conversations", "absent.jsonl"], "absent.jsonl: no such file"),
        (["recipe.yaml"], "both a recipe and --text"),
    ],
)
def test_a_mistake_is_told_on_standard_error_with_status_two(
    capsys, text, tmp_path, monkeypatch, arguments, told
):
    monkeypatch.chdir(tmp_path)
    positional = [word for word in arguments if word.endswith(".yaml")]
    rest = [word for word in arguments if word not in positional]
    status, out, err = run(capsys, "build", *positional, "--text", "text", *rest)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert told in err
    assert len(err.splitlines()) >= 2, "the way out is missing"
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize(
    ("flag", "told"),
    [("--conversations", "goes with --text"), ("--exclude", "write it under text")],
)
def test_flags_that_need_text_say_so(capsys, tmp_path, monkeypatch, flag, told):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "build", flag, "x")
    assert status == 2
    assert told in err


def test_tuning_without_conversations_is_refused(capsys, text, tmp_path):
    command = ("build", "--text", text, "--builds", tmp_path / "b", "--set", "finetune.epochs=1")
    status, out, err = run(capsys, *command)
    assert (status, out) == (2, "")
    told = (
        "`finetune` is set but has no effect without conversations or examples\n  add one of these sections"
    )
    assert err == f"error: parakit build --text: {told}, or remove this one\n"


@pytest.mark.parametrize("flag", ["--tmie", "--sizee", "--dryrun"])
def test_an_unknown_flag_names_the_nearest(capsys, flag):
    with pytest.raises(SystemExit) as ended:
        main(["build", flag, "3"])
    output = capsys.readouterr()
    assert ended.value.code == 2
    assert output.out == ""
    assert {"--tmie": "--time", "--sizee": "--size", "--dryrun": "--dry-run"}[flag] in output.err


def test_a_build_begins_with_the_model_that_is_named(capsys, published_decoder, conversations, tmp_path):
    argv = ["build", "--model", published_decoder, "--conversations", conversations, "--dry-run"]
    status, out, _ = run(capsys, *argv, "--builds", tmp_path / "builds")
    assert status == 0
    stages = out.partition("on this machine")[0]  # then what they take
    assert [line.split()[1] for line in stages.splitlines()] == [
        *("start", "conversations", "conversation_shards", "finetune", "evaluate"),
    ]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--model", "gone", "--conversations", "chats.jsonl"], "no such model to start from"),
        (["--model", "hub:org/name"], "nothing is trained"),
        (["--fetch"], "--fetch goes with --model"),
        (["--text", "hub:owner/name"], "has not been fetched"),
        (["recipe.yaml", "--model", "m"], "both a recipe and --model"),
        (["--model", "m", "--conversations", "c", "--exclude", "d"], "`text` has settings but no paths"),
    ],
)
def test_a_mistake_about_the_model_to_begin_with_is_told(capsys, argv, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "build", *argv)
    assert status == 2
    assert told in err
    assert not (tmp_path / "builds").exists()
