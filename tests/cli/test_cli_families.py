"""Encoders and encoder-decoders by hand: text, tokens, pre-training, tuning, measuring, each its own command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.checkpoints import read_config
from parakit.cli.main import main
from parakit.common import open_artifact
from parakit.training.metrics import MetricsLog

QUICK = ["--max-steps", "2", "--device", "cpu"]
PRETRAIN = ["--size", "80k", "--max-seq-len", "32", "--batch-tokens", "128", *QUICK]
FAMILIES = ("encoder", "encoder-decoder")


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


def figures(capsys, *argv: object) -> dict:
    status, out, err = run(capsys, *argv, "--json")
    assert status == 0, err
    return json.loads(out)


def write_rows(path: Path, task: str) -> Path:
    rows = []
    for i in range(80):
        text = f"the {'small' if i % 2 else 'old'} bird number {i} sees a tree"
        rows.append(
            {
                "classify": {"text": text, "label": "small" if i % 2 else "old"},
                "multi_label": {"text": text, "labels": ["small", "even"][i % 3 : i % 4]},
                "answer": {"question": "what is seen?", "context": text, "answers": ["a tree"]},
                "regress": {"text": text, "score": i / 80},
                "tag": {"words": text.split(), "tags": [word[0] for word in text.split()]},
                "translate": {"source": text, "target": " ".join(reversed(text.split()))},
                "embed": {"text": text, "positive": " ".join(reversed(text.split()))},
            }[task]
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_build) -> Path:
    """A pre-trained model of each family, made by commands from the corpus of the tiny build."""
    root = tmp_path_factory.mktemp("families")
    corpus = str(tiny_build / "corpus")
    tokenizer = ["tokenizer", "train", corpus, "--output", str(root / "tokenizer"), "--vocab-size", "330"]
    assert main([*tokenizer, "--n-sentinels", "6"]) == 0
    for family in ("decoder", *FAMILIES):
        shards = str(root / f"{family}-shards")
        encode = ["tokenizer", "encode", str(root / "tokenizer"), corpus, "--output", shards]
        assert main([*encode, "--family", family]) == 0
        made = ["--tokenizer", str(root / "tokenizer"), "--output", str(root / family), "--family", family]
        assert main(["pretrain", shards, *made, *PRETRAIN]) == 0
    return root


@pytest.mark.parametrize(
    ("family", "unit"), [("encoder", "nats per masked token"), ("encoder-decoder", "nats per target token")]
)
def test_each_family_is_pre_trained_on_its_own_objective(models, family, unit):
    lineage = open_artifact(models / family, "model").lineage
    assert lineage["config"]["stage"] == "pretrain"
    assert lineage["result"]["family"] == read_config(models / family).family == family
    assert lineage["result"]["loss_unit"] == unit
    assert lineage["result"]["loss"] > 0
    assert "bits_per_byte" not in lineage["result"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--family", "encoder"], "special tokens of the family 'decoder'"),
        (["--family", "encoder", "--objective", "next_token"], "does not fit the family 'encoder'"),
        (["--architecture", "bert"], "belongs to the family 'encoder'"),
        (["--architecture", "qwen"], "did you mean 'qwen3'"),
        (["--whole-word"], "--whole-word is set but has no effect: it belongs to objective masked"),
    ],
)
def test_what_does_not_fit_a_family_is_refused_and_leaves_nothing(capsys, models, tmp_path, flags, told):
    shards = [models / "decoder-shards", "--tokenizer", models / "tokenizer", "--output", tmp_path / "new"]
    status, out, err = run(capsys, "pretrain", *shards, *PRETRAIN, *flags)
    assert (status, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_span_corruption_without_sentinels_says_where_they_come_from(capsys, tiny_build, tmp_path):
    tokenizer, shards = tiny_build / "tokenizer", tmp_path / "shards"
    encode = ["tokenizer", "encode", tokenizer, tiny_build / "corpus", "--output", shards]
    assert run(capsys, *encode, "--family", "encoder-decoder")[0] == 0
    made = ["--tokenizer", tokenizer, "--output", tmp_path / "new", "--family", "encoder-decoder"]
    status, _, err = run(capsys, "pretrain", shards, *made, *PRETRAIN)
    assert status == 2
    assert "n_sentinels" in err
    assert run(capsys, "pretrain", shards, *made, *PRETRAIN, "--objective", "prefix")[0] == 0


@pytest.mark.parametrize(
    ("family", "task", "answer"),
    [
        ("encoder", "classify", "label"),
        pytest.param("decoder", "classify", "label", marks=pytest.mark.long),
        pytest.param("encoder", "multi_label", "labels", marks=pytest.mark.long),
        ("encoder", "answer", "answer"),
        pytest.param("encoder", "tag", "tags", marks=pytest.mark.long),
        ("encoder", "regress", "score"),
        ("encoder", "embed", "vector"),
        ("encoder-decoder", "translate", "target"),
    ],
)
def test_a_model_is_tuned_measured_and_used(capsys, models, tmp_path, family, task, answer):
    rows, out = write_rows(tmp_path / "rows.jsonl", task), tmp_path / "tuned"
    tuned = ["finetune", models / family, "--task", task, "--examples", rows, "--output", out, *QUICK]
    found = figures(capsys, *tuned, "--batch-examples", "8")
    assert (found["task"], found["family"], found["steps"]) == (task, family, 2)
    lineage = open_artifact(out, "model").lineage
    assert open_artifact(models / family).digest in [parent["digest"] for parent in lineage["parents"]]
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "tuned"}
    flags = ["--max-new-tokens", "4"] if task == "translate" else []
    measured = figures(capsys, "evaluate", out, "--examples", rows, *flags)["examples"]
    assert (measured["task"], measured["n"]) == (task, 80)
    assert measured["samples"]
    assert set(measured["samples"][0]) == {"input", "prediction", "expected", "correct"}
    first = json.loads(rows.read_text().splitlines()[0])
    if task == "answer":
        (tmp_path / "one.jsonl").write_text(json.dumps(first))
        assert answer in figures(capsys, "predict", out, "--input", tmp_path / "one.jsonl")
        return
    text = first.get("text") or first.get("source") or " ".join(first["words"])
    assert answer in figures(capsys, "predict", out, "--text", text, *flags)


def test_a_folder_of_examples_serves_tuning_and_measuring(capsys, models, tmp_path):
    rows, folder = write_rows(tmp_path / "rows.jsonl", "classify"), tmp_path / "examples"
    text = ["text", rows, "--task", "classify", "--output", folder, "--test-fraction", "0.2"]
    status, printed, _ = run(capsys, *text)
    assert status == 0
    assert "examples" in printed
    out = tmp_path / "tuned"
    tuned = ["finetune", models / "encoder", "--task", "classify", "--examples", folder, "--output", out]
    assert run(capsys, *tuned, *QUICK, "--batch-examples", "8")[0] == 0
    kept = tmp_path / "measured"
    measured = figures(capsys, "evaluate", out, "--examples", folder, "--output", kept)["examples"]
    assert measured["split"] == "test"
    assert 0 < measured["n"] < 40
    assert open_artifact(kept, "evaluation").lineage["result"]["examples"]["n"] == measured["n"]
    status, printed, _ = run(capsys, "evaluate", out, "--examples", folder)
    assert status == 0
    assert "accuracy" in printed
    shards = tmp_path / "shards"
    encoded = run(capsys, "tokenizer", "encode", out, folder, "--output", shards, "--family", "encoder")
    assert encoded[0] == 0
    assert "examples" in encoded[1]


@pytest.mark.parametrize(
    ("family", "flags", "told"),
    [
        ("encoder", ["--task", "translate"], "needs an encoder and a decoder"),
        (
            "encoder",
            ["--task", "chat", "--conversations", "rows.jsonl"],
            "only a decoder continues a conversation",
        ),
        ("encoder-decoder", ["--task", "classify"], "does not fit the family 'encoder-decoder'"),
        ("encoder", ["--task", "classify", "--conversations", "rows.jsonl"], "--conversations is set"),
        ("encoder", ["--task", "classify", "--label-smoothing", "0.1"], "it belongs to task translate"),
        (
            "encoder",
            ["--task", "classify", "--batch-tokens", "64"],
            "--batch-tokens is set but has no effect",
        ),
        ("encoder", ["--task", "regress"], "score"),
        ("encoder", ["--task", "clasify"], "classify"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_and_leaves_nothing(
    capsys, models, tmp_path, monkeypatch, family, flags, told
):
    monkeypatch.chdir(tmp_path)
    rows = write_rows(Path("rows.jsonl"), "classify")
    examples = [] if "chat" in flags else ["--examples", rows]
    status: object = 2
    try:
        status, out, err = run(capsys, "finetune", models / family, *examples, "--output", "new", *flags)
    except SystemExit as stop:  # the parser's own refusal
        status, out, err = stop.code, "", capsys.readouterr().err
    assert (status, out) == (2, "")
    assert told in err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_an_interrupted_tuning_goes_on_to_the_same_weights(capsys, models, tmp_path, monkeypatch):
    rows = write_rows(tmp_path / "rows.jsonl", "classify")

    def command(out: str) -> list:
        tuned = ["finetune", models / "encoder", "--task", "classify", "--examples", rows]
        steps = ["--max-steps", "4", "--batch-examples", "8", "--save-every", "1", "--dropout", "0.1"]
        return [*tuned, "--output", tmp_path / out, "--device", "cpu", *steps]

    assert run(capsys, *command("whole"))[0] == 0
    log = MetricsLog.write_step

    def interrupted(metrics, record, *rest):
        log(metrics, record, *rest)
        if record.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(MetricsLog, "write_step", interrupted)
    assert run(capsys, *command("broken"))[0] == 130
    monkeypatch.setattr(MetricsLog, "write_step", log)
    status, _, err = run(capsys, *command("broken"))
    assert status == 0
    assert "resuming after step 2 of 4" in err
    whole, broken = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == broken


def test_a_task_without_examples_says_how_they_are_named(capsys, models, tmp_path):
    status, _, err = run(
        capsys, "finetune", models / "encoder", "--task", "tag", "--output", tmp_path / "new"
    )
    assert status == 2
    assert "--examples tag.jsonl" in err
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_no_example_of_the_models_task_is_named(capsys, models, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", "classify")
    for family in ("encoder", "encoder-decoder"):
        status, _, err = run(capsys, "evaluate", models / family, "--examples", rows)
        assert status == 2
        assert "rows.jsonl, row 1: no '" in err
    status, _, err = run(
        capsys, "evaluate", models / "encoder", "--examples", rows, "--examples-split", "test"
    )
    assert status == 2
    assert "--examples-split goes with a folder" in err


def test_a_build_of_text_takes_a_family_a_task_and_its_examples(capsys, text, tmp_path, tiny):
    rows = write_rows(tmp_path / "rows.jsonl", "classify")
    made = ["build", "--text", text, "--family", "encoder", "--task", "classify", "--examples", rows]
    place = ["--builds", tmp_path / "builds", "--name", "mine"]
    quick = [*tiny, "finetune.max_steps=2", "finetune.batch_examples=8"]
    summary = figures(capsys, *made, *place, "--set", *quick)
    assert summary["stages"]["pretrain"]["family"] == "encoder"
    assert summary["task"]["task"] == "classify"
    assert summary["task"]["figures"][0]["name"] == "accuracy"
    report = (tmp_path / "builds/mine/report.html").read_text()
    assert "parakit predict" in report
    status, _, err = run(capsys, *made, *place, "--set", *quick)
    assert status == 0
    assert "accuracy" in err
    assert "[finetune] skipped" in err
    assert f"parakit predict {tmp_path / 'builds/mine/finetune'}" in err
    status, _, err = run(capsys, "build", "--examples", rows, "--builds", tmp_path / "b")
    assert status == 2
    assert "--examples goes with --text" in err


@pytest.mark.parametrize(
    ("family", "task"),
    [("encoder", "classify"), ("decoder", "tag"), ("encoder", "embed"), ("encoder-decoder", "translate")],
)
def test_other_tasks_are_tuned_by_an_adapter_too(capsys, models, tmp_path, family, task):
    rows, out = write_rows(tmp_path / "rows.jsonl", task), tmp_path / "adapter"
    arguments = ["--task", task, "--examples", rows, "--output", out, "--method", "lora", "--rank", "2"]
    tuned = figures(capsys, "finetune", models / family, *arguments, *QUICK)
    assert tuned["trained_parameters"] < tuned["parameters"] / 2
    assert open_artifact(out, "adapter").lineage["config"]["objective"] == task
    status, output, err = run(capsys, "predict", out, "--text", "the small bird", "--json")
    assert status == 0, err
    assert json.loads(output)
    if task != "embed":
        assert figures(capsys, "evaluate", out, "--examples", rows)["examples"]["n"] == 80
