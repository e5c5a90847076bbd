"""`parakit build --seeds --vary` at the terminal: the plan, mistakes, runs as processes, Ctrl-C and what goes on after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.recipe.sweeps import running
from tests.recipe.test_recipe_sweeps import here
from tests.waiting import wait_until


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture
def command(text, tmp_path, tiny) -> list[str]:
    """A sweep of the tiny build."""
    return ["build", "--text", str(text), "--builds", str(tmp_path / "b"), "--name", "mine", "--set", *tiny]


def test_a_dry_run_has_the_plan_of_every_run_and_writes_nothing(capsys, command, tmp_path):
    plan = ("--seeds", "2", "--vary", "pretrain.learning_rate=0.01,0.02", "--dry-run")
    status, out, _ = run(capsys, *command, *plan)
    assert status == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("learning_rate")] == [
        f"learning_rate-{rate}-seed-{seed}" for rate in ("0.01", "0.02") for seed in (0, 1)
    ]
    assert out.count("skip  corpus, tokenizer, shards: taken from learning_rate-0.01-seed-0") == 3
    assert lines[-1] == "4 runs, 20 stages, of which 11 are run"
    status, out, _ = run(capsys, *command, *plan, "--json")
    runs = json.loads(out)["runs"]
    assert [(one["seed"], one["recipe"]["pretrain"]["learning_rate"]) for one in runs] == [
        *((0, 0.01), (1, 0.01), (0, 0.02), (1, 0.02)),
    ]
    assert not (tmp_path / "b").exists()


def test_the_results_are_printed_and_written(capsys, command, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "start_process", here)
    status, out, err = run(capsys, *command, "--seeds", "3,7", "--json")
    assert status == 0
    results = json.loads(out)
    assert results == json.loads((tmp_path / "b/mine/sweep/results.json").read_text())
    bits = next(row for row in results["figures"] if row["figure"] == "bits per byte")
    summaries = [json.loads((tmp_path / f"b/mine/runs/seed-{n}/summary.json").read_text()) for n in (3, 7)]
    values = [one["stages"]["pretrain"]["bits_per_byte"] for one in summaries]
    assert bits["by_seed"] == {"3": values[0], "7": values[1]}
    assert bits["mean"] == pytest.approx(sum(values) / 2)
    assert summaries[0]["path"] == str(tmp_path / "b/mine/runs/seed-3")
    assert f"report: {tmp_path / 'b/mine/sweep/report.html'}" in err
    status, out, err = run(capsys, "show", tmp_path / "b/mine")
    assert status == 0
    assert "seeds 3, 7" in out
    assert "bits per byte" in out


def test_a_failing_run_is_named_at_the_end_with_its_status(capsys, command, monkeypatch):
    monkeypatch.setattr(running, "start_process", here)
    from parakit.stages import pretraining

    job = pretraining.PretrainJob

    def broken(**settings):
        if settings["training"].seed == 1:
            raise RuntimeError("boom")
        return job(**settings)

    monkeypatch.setattr(pretraining, "PretrainJob", broken)
    status, out, err = run(capsys, *command, "--seeds", "2")
    assert (status, out) == (1, "")
    assert "failed: seed-1: pretrain: RuntimeError: boom" in err
    assert err.splitlines()[-1].startswith("1 of 2 runs failed")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "many"], "neither a number of seeds"),
        (["--seeds", "3,3"], "the seed 3 is there twice"),
        (["--vary", "pretrain.learning_rat=0.1,0.2"], "did you mean `learning_rate`"),
        (["--vary", "pretrain.weight_decay=0.1,many"], "`pretrain.weight_decay`"),
        (["--vary", "pretrain.max_steps=4,5"], "pretrain.max_steps is set and varied"),
        (["--vary", "size=40k,50k"], "size is set and varied"),
        (["--vary", "pretrain.max_steps=[1"], "not readable as YAML"),
        (["--seeds", "600", "--vary", "pretrain.weight_decay=0.1,0.2"], "1,200 runs, 1,000 at most"),
        (["--parallel", "2"], "there is one run"),
        (["--seeds", "2", "--parallel", "0"], "--parallel"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(capsys, command, tmp_path, words, message):
    status, out, err = run(capsys, *command, *words)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) >= 2
    assert not (tmp_path / "b").exists()


def test_files_of_something_else_are_left_alone(capsys, command, tmp_path):
    (tmp_path / "b/mine/runs").mkdir(parents=True)
    (tmp_path / "b/mine/runs/thesis.txt").write_text("mine")
    status, _, err = run(capsys, *command, "--seeds", "2")
    assert status == 2
    assert "no sweep wrote it" in err
    assert [path.name for path in (tmp_path / "b/mine").iterdir()] == ["runs"]


def wait_until_both_train(folder: Path, sweep: subprocess.Popen) -> None:
    """Until both runs of a sweep have a checkpoint."""

    def both() -> bool:
        assert sweep.poll() is None, "the sweep ended"
        return all(any((folder / f"runs/seed-{n}/work").rglob("*.safetensors")) for n in (0, 1))

    wait_until(both, seconds=300)


@pytest.mark.long
def test_processes_that_are_stopped_go_on(command, tmp_path):
    """Two runs at once are stopped by Ctrl-C in the middle, then go on to the weights of single builds."""
    command = [*command, "pretrain.max_steps=400", "pretrain.save_every=5"]
    argv = [sys.executable, "-m", "parakit", *command, "--seeds", "2", "--parallel", "2"]
    folder = tmp_path / "b/mine"
    first = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    wait_until_both_train(folder, first)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    first.stderr.close()
    logs = [(folder / f"sweep/logs/seed-{n}.log").read_text() for n in (0, 1)]
    assert all("stopped after step" in log for log in logs)
    second = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    logs = [(folder / f"sweep/logs/seed-{n}.log").read_text() for n in (0, 1)]
    assert all("resuming after step" in log for log in logs)
    for seed in (0, 1):
        assert main([*command, f"seed={seed}", "--name", f"single-{seed}"]) == 0
        weights = [
            Path(place, "pretrain/model.safetensors").read_bytes()
            for place in (folder / f"runs/seed-{seed}", tmp_path / f"b/single-{seed}")
        ]
        assert weights[0] == weights[1]


@pytest.mark.long
def test_a_run_that_is_killed_and_a_sweep_that_is_killed(command, tmp_path):
    """One run dies: the other is built. The sweep dies: its runs stop by themselves."""
    command = [*command, "pretrain.max_steps=400", "pretrain.save_every=5"]
    argv = [sys.executable, "-m", "parakit", *command, "--seeds", "2", "--parallel", "2"]
    folder = tmp_path / "b/mine"

    def pids() -> dict[int, int]:
        found = {}
        for n in (0, 1):
            lock = folder / f"runs/seed-{n}/.lock"
            if lock.is_file() and lock.read_text().strip():
                found[n] = int(lock.read_text())
        return found

    sweep = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    wait_until_both_train(folder, sweep)
    running_now = pids()
    sweep.kill()
    sweep.wait(60)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running_now.values()))
    assert all("stopped after step" in (folder / f"sweep/logs/seed-{n}.log").read_text() for n in (0, 1))
    again = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(pids()) == 2 and not set(pids().values()) & set(running_now.values()))
    os.kill(pids()[1], signal.SIGKILL)
    _, err = again.communicate(timeout=300)
    assert again.returncode == 1
    assert "seed-1: its process was ended by signal 9" in err
    assert (folder / "runs/seed-0/summary.json").is_file()
