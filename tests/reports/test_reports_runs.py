"""Runs and their metrics are found and read as they grow; curves are smoothed and thinned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.common.files import write_checked_json, write_json_atomic
from parakit.reports.training_runs.curves import (
    metric_names,
    points_of,
    run_figures,
    samples_of,
    setting_differences,
    smoothed,
    thinned,
)
from parakit.reports.training_runs.finding import (
    MetricsReader,
    find_runs,
    is_alive,
    planned_steps,
    run_settings,
    stage_seconds,
)


def step(number: int, loss: float | None = 1.0, **more: object) -> dict[str, object]:
    row = {
        "kind": "step",
        "step": number,
        "loss": loss,
        "tokens": 10,
        "seconds": 0.5,
        "tokens_per_second": 20.0,
    }
    return row | more


def write_rows(path: Path, rows: list[dict[str, object]], end: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end)


def write_run(
    root: Path, build: str, rows: list[dict[str, object]], pid: int | None, rate: float = 0.1
) -> Path:
    """A run under way in a build's folder."""
    folder = root / "builds" / build / "work" / "pretrain" / "0123abcd"
    write_rows(folder / "metrics.jsonl", rows)
    plan = {"max_steps": 20, "learning_rate": rate}
    write_checked_json(folder / "plan.json", {"family": "decoder", "config": {"d_model": 8}, "plan": plan})
    write_checked_json(folder / "run.json", {"training": {}, "spec": {"stage": "pretrain"}, "inputs": []})
    write_json_atomic(root / "builds" / build / "build.json", {"stages": {"corpus": {"seconds": 1.5}}})
    if pid is not None:
        (root / "builds" / build / ".lock").write_text(str(pid))
    os.utime(folder / "metrics.jsonl", (0, 0))
    return folder


def test_runs_are_found_with_their_state(tmp_path: Path) -> None:
    write_run(tmp_path, "one", [step(1)], pid=os.getpid())
    write_run(tmp_path, "two", [step(1)], pid=2**22 + 1)
    found = {run.name: run for run in find_runs(tmp_path)}
    assert {name: run.state for name, run in found.items()} == {
        "one / pretrain": "running",
        "two / pretrain": "interrupted",
    }
    run = found["one / pretrain"]
    assert run.build == tmp_path / "builds" / "one"
    assert planned_steps(run) == 20
    assert stage_seconds(run.build) == {"corpus": 1.5}


def test_finished_builds_are_found(primer_build) -> None:
    builds, _ = primer_build
    runs = {run.stage: run for run in find_runs(builds.parent)}
    assert {"pretrain", "finetune"} <= runs.keys()
    assert {run.state for run in runs.values()} == {"finished"}
    rows = MetricsReader(runs["pretrain"].metrics).read()
    assert run_figures(rows).step == planned_steps(runs["pretrain"]) == 6
    assert run_settings(runs["pretrain"])["inputs"].keys() == {"shards", "tokenizer"}


def test_a_growing_file_is_read_in_parts_and_a_shorter_one_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_rows(path, [step(1)], end='{"kind": "st')
    reader = MetricsReader(path)
    assert [row["step"] for row in reader.read()] == [1]
    write_rows(path, [step(1), step(2)], end="no JSON\n")
    assert [row["step"] for row in reader.read()] == [1, 2]
    assert reader.damaged == 1
    write_rows(path, [step(1)])
    assert [row["step"] for row in reader.read()] == [1]
    path.unlink()
    with pytest.raises(UserError, match="is gone"):
        reader.read()


def test_a_process_that_has_ended_is_not_alive() -> None:
    assert is_alive(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid)  # it has ended, though nobody has waited for it
    child.wait()
    assert not is_alive(child.pid)


def test_metrics_are_counted_by_step_tokens_and_seconds() -> None:
    rows = [step(1, 3.0), step(2, None), step(3, 2.0), {"kind": "validation", "step": 3, "loss": 2.5}]
    assert points_of(rows, "step/loss") == [(1, 3.0), (3, 2.0)]
    assert points_of(rows, "step/loss", "tokens") == [(10, 3.0), (30, 2.0)]
    assert points_of(rows, "validation/loss", "seconds") == [(1.5, 2.5)]
    assert metric_names(rows)[:2] == ["step/loss", "validation/loss"]
    figures = run_figures(rows)
    assert (figures.step, figures.tokens, figures.loss, figures.validation_loss) == (3, 30, 2.0, 2.5)


def test_smoothing_is_the_corrected_moving_average() -> None:
    points = [(float(i), y) for i, y in enumerate([4.0, 2.0, 3.0, 1.0])]
    weight = 0.7
    expected = []
    for n in range(1, len(points) + 1):
        weights = weight ** np.arange(n)[::-1]
        expected.append(np.average([y for _, y in points[:n]], weights=weights))
    np.testing.assert_allclose([y for _, y in smoothed(points, weight)], expected, rtol=1e-12)
    assert smoothed(points, 0) == points


def test_thinning_keeps_spikes_and_ends() -> None:
    points = [(float(i), 0.0) for i in range(10_000)]
    points[7_777] = (7_777.0, 99.0)
    kept = thinned(points, 100)
    assert len(kept) <= 100
    assert (7_777.0, 99.0) in kept
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert kept == sorted(kept)


def test_the_settings_in_which_runs_differ(tmp_path: Path) -> None:
    write_run(tmp_path, "one", [step(1)], None, rate=0.1)
    write_run(tmp_path, "two", [step(1)], None, rate=0.2)
    settings = {run.name: run_settings(run) for run in find_runs(tmp_path)}
    assert setting_differences(settings) == [
        ("plan.learning_rate", {"one / pretrain": "0.1", "two / pretrain": "0.2"})
    ] or setting_differences(settings) == [
        ("plan.learning_rate", {"two / pretrain": "0.2", "one / pretrain": "0.1"})
    ]


def test_samples_by_step() -> None:
    rows = [step(1), {"kind": "sample", "step": 1, "samples": [{"prompt": "a", "completion": "b"}, "odd"]}]
    assert samples_of(rows) == [(1, [{"prompt": "a", "completion": "b"}])]
