"""Runs of one output: an interrupted one of other settings is named and kept, or taken over, and two at once are refused."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common.artifacts import open_artifact
from parakit.common.locks import output_lock
from parakit.training.metrics import MetricsLog, read_metrics
from tests.cli.test_cli_pretrain import run

STEPS = {"max-steps": "20", "save-every": "4", "batch-tokens": "64", "size": "20k", "max-seq-len": "16"}
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def pretrain(capsys, tiny_build, tmp_path, monkeypatch) -> Run:
    """`pretrain(name, killed_at=None, flags)`: the exit status and what was printed."""
    log = MetricsLog.write_step

    def start(name: str, *more: str, killed_at: int | None = None, **flags: str) -> tuple[int, str]:
        def log_then_end(metrics, record, *rest):
            log(metrics, record, *rest)
            if record.step == killed_at:
                raise KeyboardInterrupt

        monkeypatch.setattr(MetricsLog, "write_step", log_then_end)
        settings = STEPS | {key.replace("_", "-"): value for key, value in flags.items()}
        command = ["pretrain", str(tiny_build / "shards"), "--tokenizer", str(tiny_build / "tokenizer")]
        command += ["--output", str(tmp_path / name), "--compile", "off", "--device", "cpu"]
        status, _, err = run(
            capsys, *command, *more, *(x for k, v in settings.items() for x in (f"--{k}", v) if v)
        )
        return status, err

    return start


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("flags", "continued"),
    [
        ({"max_steps": "30"}, True),  # the decay begins later than the checkpoint in both
        ({"max_steps": "6"}, False),  # ends before it
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ({"max_steps": "30", "validate_every": "5", "save_every": "7"}, True),
                ({"decay_fraction": "0.2"}, True),
                ({"max_steps": "10"}, False),  # would have decayed before the checkpoint
                ({"learning_rate": "0.003"}, False),
                ({"max_steps": "30", "seed": "1"}, False),
                ({"max_steps": "30", "batch_growth": "2"}, False),
            )
        ),
    ],
    ids=str,
)
def test_a_changed_flag_keeps_the_work_that_it_leaves_as_it_is(
    pretrain: Run, tmp_path, flags, continued
) -> None:
    assert pretrain("model", killed_at=9)[0] == 130
    status, printed = pretrain("model", **flags)
    assert status == 0
    assert ("resuming after step 8 of" in printed) == continued
    assert pretrain("fresh", **flags)[0] == 0
    assert weights(tmp_path / "model") == weights(tmp_path / "fresh")
    steps = [
        row["step"]
        for row in read_metrics(tmp_path / "model/training/metrics.jsonl")
        if row["kind"] == "step"
    ]
    assert steps == list(range(1, len(steps) + 1))
    name, value = next(iter(flags.items()))
    assert f"after step 8 of 20 ({name} " in printed or "batch_growth" in flags
    assert f", now {value}" in printed
    assert (tmp_path / ".model.work").exists() != continued
    if not continued:
        assert "is kept; the earlier settings resume it, and --overwrite deletes it" in printed


def test_a_kept_run_is_resumed_by_its_settings_and_deleted_by_overwrite(pretrain: Run, tmp_path) -> None:
    assert pretrain("fresh")[0] == 0
    assert pretrain("model", killed_at=9)[0] == 130
    assert pretrain("model", max_steps="6")[0] == 0
    left = shutil.copytree(tmp_path / ".model.work", tmp_path / "copy")
    status, printed = pretrain("model", "--overwrite")
    assert status == 0
    assert "resuming after step 8 of 20" in printed
    assert weights(tmp_path / "model") == weights(tmp_path / "fresh")
    assert not (tmp_path / ".model.work").exists()
    left.rename(tmp_path / ".model.work")
    status, printed = pretrain("model", "--overwrite", max_steps="6")
    assert status == 0
    assert "after step 8 of 20 (max_steps 20, now 6) is deleted when this run has succeeded" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"model", "fresh"}


def test_a_second_run_of_one_output_is_refused_and_the_first_keeps_its_checkpoints(
    pretrain: Run, tmp_path
) -> None:
    assert pretrain("model", killed_at=9)[0] == 130
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with output_lock(tmp_path / "model"):
            held.set()
            release.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    status, printed = pretrain("model", max_steps="6")
    release.set()
    other.join()
    assert status == 2
    assert f"process {os.getpid()} is already writing here" in printed
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert pretrain("model")[0] == 0


def test_what_a_kill_after_the_last_rename_left_is_removed_when_the_command_is_repeated(
    pretrain: Run, tmp_path, monkeypatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("parakit.stages.run_dir._remove_finished", killed)
        assert pretrain("model")[0] == 130
    assert (tmp_path / ".model.work").exists()
    digest = open_artifact(tmp_path / "model").digest
    status, printed = pretrain("model")
    assert status == 2
    assert "exists already" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert open_artifact(tmp_path / "model").digest == digest
