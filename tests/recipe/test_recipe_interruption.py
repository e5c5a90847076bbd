"""A build that was interrupted goes on, and ends in the same weights as one that was not."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.recipe import build
from parakit.training import TrainingInterrupted
from parakit.training.metrics import MetricsLog
from tests.attacks.forked import forked

STEPS = {"pretrain__max_steps": 30, "pretrain__save_every": 2}
UNBROKEN: list[str] = []


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "mine/pretrain/model.safetensors").read_bytes()).hexdigest()


def at_step(n: int, action, monkeypatch) -> None:
    """Do `action` when step `n` of pre-training is logged."""
    log = MetricsLog.write_step

    def log_then_act(metrics, record, *rest):
        log(metrics, record, *rest)
        if record.step == n:
            action()

    monkeypatch.setattr(MetricsLog, "write_step", log_then_act)


def ctrl_c_in_a_library() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def unbroken(text_recipe, tmp_path) -> str:
    """The weights of a build that nobody disturbed; made once, for its text is the same in every test."""
    if not UNBROKEN:
        build(text_recipe(**STEPS), tmp_path / "unbroken")
        UNBROKEN.append(weights(tmp_path / "unbroken"))
    return UNBROKEN[0]


@pytest.mark.parametrize(
    ("action", "raised"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGTERM), TrainingInterrupted),
        pytest.param(
            lambda: os.kill(os.getpid(), signal.SIGINT), TrainingInterrupted, marks=pytest.mark.long
        ),
        (ctrl_c_in_a_library, KeyboardInterrupt),
    ],
)
def test_an_interrupted_build_goes_on_to_the_same_weights(
    text_recipe, tmp_path, monkeypatch, capsys, unbroken, action, raised
):
    with monkeypatch.context() as patched:
        at_step(9, action, patched)
        with pytest.raises(raised):
            build(text_recipe(**STEPS), tmp_path / "builds")
    mine = tmp_path / "builds/mine"
    assert {path.name for path in mine.iterdir()} == {"build.json", "corpus", "tokenizer", "shards", "work"}
    capsys.readouterr()
    build(text_recipe(**STEPS), tmp_path / "builds")
    printed = capsys.readouterr().err
    assert f"resuming after step {9 if raised is TrainingInterrupted else 8} of 30" in printed
    assert "[shards] skipped" in printed
    assert weights(tmp_path / "builds") == unbroken
    assert not (mine / "work").exists()


def test_a_change_after_an_interruption_begins_anew_and_the_old_settings_go_on(
    text_recipe, tmp_path, monkeypatch, capsys
):
    """Checkpoints of one set of settings are never continued under another."""
    with monkeypatch.context() as patched:
        at_step(9, ctrl_c_in_a_library, patched)
        with pytest.raises(KeyboardInterrupt):
            build(text_recipe(**STEPS), tmp_path / "builds")
        at_step(5, ctrl_c_in_a_library, patched)
        with pytest.raises(KeyboardInterrupt):
            build(text_recipe(**STEPS, pretrain__learning_rate=0.01), tmp_path / "builds")
        assert "going on" not in capsys.readouterr().err
    build(text_recipe(**STEPS), tmp_path / "builds")
    assert "resuming after step 8 of 30" in capsys.readouterr().err


def test_an_interruption_before_the_first_checkpoint_leaves_no_work_behind(
    text_recipe, tmp_path, monkeypatch
):
    at_step(1, ctrl_c_in_a_library, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        build(text_recipe(**STEPS), tmp_path / "builds")
    assert list((tmp_path / "builds/mine").rglob("plan.json")) == []


def test_an_interruption_in_the_first_stage_leaves_nothing(text_recipe, tmp_path, monkeypatch):
    from parakit.data import corpus

    monkeypatch.setattr(corpus, "collect", lambda *_: ctrl_c_in_a_library())
    with pytest.raises(KeyboardInterrupt):
        build(text_recipe(), tmp_path / "builds")
    assert not (tmp_path / "builds").exists()


@pytest.mark.parametrize(("number", "status", "last"), [("SIGTERM", 143, 9), ("SIGKILL", -9, 8)])
def test_a_killed_command_goes_on_to_the_same_weights(
    text_recipe, text, tmp_path, capsys, unbroken, number, status, last
):
    recipe = text_recipe(**STEPS)
    given = [f"{key.replace('__', '.')}={value}" for key, value in STEPS.items()]
    given += ["size=40k", "max_seq_len=32", "tokenizer.vocab_size=320", "pretrain.batch_tokens=128"]
    given += ["name=mine", "prompts=[the bird]"]
    arguments = ["build", "--text", str(text), "--builds", str(tmp_path / "builds"), "--set", *given]

    def killed_at_step_nine() -> int:
        log = MetricsLog.write_step

        def log_then_die(metrics, record, *rest):
            log(metrics, record, *rest)
            if record.step == 9:
                os.kill(os.getpid(), getattr(signal, number))

        MetricsLog.write_step = log_then_die  # of this child process
        return main(arguments)

    done = forked(killed_at_step_nine)
    assert done.status == status, done.printed
    assert not done.crashed
    assert number == "SIGKILL" or "stopped after step 9 of 30" in done.printed
    build(recipe, tmp_path / "builds")
    assert f"resuming after step {last} of 30" in capsys.readouterr().err
    assert weights(tmp_path / "builds") == unbroken
