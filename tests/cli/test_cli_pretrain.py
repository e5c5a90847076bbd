"""`parakit pretrain` and `parakit finetune` as commands of their own."""

from __future__ import annotations

import json
import shutil

import pytest

from parakit.cli.main import main
from parakit.common import open_artifact
from parakit.training.metrics import MetricsLog

QUICK = ["--max-steps", "3", "--batch-tokens", "128"]


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


def command(build, out) -> list:
    shards = [build / "shards", "--tokenizer", build / "tokenizer", "--output", out]
    return ["pretrain", *shards, "--size", "40k", "--max-seq-len", "32", *QUICK]


def test_a_model_is_written_and_its_figures_are_one_json_object(capsys, tiny_build, tmp_path):
    out = tmp_path / "new/model"
    status, printed, err = run(capsys, *command(tiny_build, out), "--json")
    assert status == 0
    figures = json.loads(printed)
    assert len(printed.splitlines()) == 1
    assert figures["steps"] == 3
    assert figures["tokens"] == 3 * 128
    assert open_artifact(out, "model").lineage["result"]["bits_per_byte"] == figures["bits_per_byte"]
    assert f"parakit generate {out}" in err
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_an_existing_output_is_not_touched_unless_told(capsys, tiny_build, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(tiny_build / "pretrain", out)
    before = open_artifact(out).digest
    status, _, err = run(capsys, *command(tiny_build, out))
    assert status == 2
    assert "--overwrite" in err
    assert open_artifact(out).digest == before
    assert run(capsys, *command(tiny_build, out), "--overwrite", "--seed", "3")[0] == 0
    assert open_artifact(out).digest != before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    status, _, err = run(capsys, *command(tiny_build, mine), "--overwrite")
    assert status == 2
    assert "not a Parakit artifact" in err
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"model", "mine"}


def test_the_same_command_goes_on_after_an_interruption(capsys, tiny_build, tmp_path, monkeypatch):
    log = MetricsLog.write_step

    def interrupted(metrics, record, *rest):
        log(metrics, record, *rest)
        if record.step == 2:
            raise KeyboardInterrupt

    out = tmp_path / "model"
    monkeypatch.setattr(MetricsLog, "write_step", interrupted)
    assert run(capsys, *command(tiny_build, out), "--save-every", "1")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == [".model.work"]
    monkeypatch.setattr(MetricsLog, "write_step", log)
    status, _, err = run(capsys, *command(tiny_build, out), "--save-every", "1")
    assert status == 0
    assert "resuming after step 1 of 3" in err
    whole = tmp_path / "whole"
    assert run(capsys, *command(tiny_build, whole), "--save-every", "1")[0] == 0
    name = "model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"model", "whole"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--schedule", "cosine", "--decay-fraction", "0.3"],
            "--decay-fraction is set but has no effect",
        ),
        (["--optimizer", "adamw", "--momentum", "0.9"], "--momentum is set but has no effect"),
        (["--optimizer", "adamw", "--embedding-learning-rate", "0.1"], "--embedding-learning-rate is set"),
        (["--max-seq-len", "2"], "--max-seq-len: Input should be greater than or equal to 8"),
        (["--size", "5q"], "'5q' is not a parameter count"),
        (["--time", "soon"], "'soon' is not a length of time"),
        (["--time", "10min"], "--time is set but has no effect"),
        (["--epochs", "2"], "--max-steps and --epochs both set how long to train"),
        (["--seq-len", "64"], "exceeds the model's max_seq_len = 32"),
        (["--batch-tokens", "1000000"], "fewer than one batch"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_leave_nothing(capsys, tiny_build, tmp_path, flags, told):
    status, out, err = run(capsys, *command(tiny_build, tmp_path / "new/model"), *flags)
    assert (status, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [(["--max-seq-len", "two"], "invalid literal"), (["--momentun", "1"], "--momentum")],
)
def test_flags_that_do_not_parse_end_with_status_two(capsys, tiny_build, tmp_path, flags, told):
    with pytest.raises(SystemExit) as ended:
        run(capsys, *command(tiny_build, tmp_path / "model"), *flags)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err.replace("\n", " ")


def test_a_tokenizer_that_did_not_write_the_shards_is_refused(capsys, tiny_build, tmp_path, text):
    corpus, other = tiny_build / "corpus", tmp_path / "other"
    made = run(capsys, "tokenizer", "train", corpus, "--output", other, "--vocab-size", "300")
    assert made[0] == 0
    arguments = command(tiny_build, tmp_path / "model")
    arguments[arguments.index("--tokenizer") + 1] = other
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "tokenizer" in err
    assert not list(tmp_path.glob("*model*"))
