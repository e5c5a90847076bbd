"""A run that was stopped, by whatever, goes on to the same bits."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parakit.common.errors import CorruptArtifact, UserError
from parakit.training import Trainer, TrainingInterrupted, train_state
from parakit.training import trainer as trainer_module
from parakit.training.metrics import MetricsLog, read_metrics, step_summary
from tests.training.killed_runs import kill_runs
from tests.training.tiny_runs import facts, finish, tiny_trainer, weights

RUNS: list[dict[str, Any]] = [
    {"optimizer": "muon"},
    {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine"},
    {"optimizer": "muon", "micro_batch_size": 4, "batch_growth": 4, "weight_decay": 0.05},
    {"packing": "pack", "micro_batch_size": 2},
    {"max_steps": 30, "save_every": 7, "dropout": 0.0},
]


@pytest.mark.parametrize("settings", RUNS, ids=lambda s: "-".join(map(str, s.values())))
def test_a_run_left_at_any_step_goes_on_to_the_same_losses_and_weights(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    unbroken = tiny_trainer(None, **settings)
    wanted = [facts(record) for record in finish(unbroken)]
    n = len(wanted)
    for stop in (1, n // 2 + 1):
        folder = tmp_path / str(stop)
        seen = {}
        for record in tiny_trainer(folder, **settings).steps():
            seen[record.step] = facts(record)
            if record.step == stop:
                break
        resumed = tiny_trainer(folder, **settings)
        assert resumed.first_step <= stop
        seen |= {record.step: facts(record) for record in finish(resumed)}
        assert [seen[step] for step in sorted(seen)] == wanted
        assert weights(resumed.model) == weights(unbroken.model)


def test_the_rows_of_a_run_are_each_taken_once_across_a_resume(tmp_path: Path) -> None:
    settings = {"batch_growth": 2, "micro_batch_size": 4, "max_steps": 16}
    trainer = tiny_trainer(tmp_path, **settings)
    read_rows: list[int] = []
    real = trainer.source.rows

    def noting(start: int, n: int) -> Any:
        read_rows.extend(range(start, start + n))
        return real(start, n)

    trainer.source.rows = noting  # type: ignore[method-assign]
    for record in trainer.steps():
        if record.step == 7:
            break
    taken = read_rows[: trainer.plan.rows_before(6)]  # the checkpoint after step 6 is what counts
    resumed = tiny_trainer(tmp_path, **settings)
    read_rows.clear()
    resumed.source.rows = noting  # type: ignore[method-assign]
    finish(resumed)
    assert resumed.first_step == 6
    assert taken + read_rows == list(range(resumed.plan.rows_before(16)))


def ask_to_stop(trainer: Trainer, *numbers: int, at_step: int) -> None:
    for record in trainer.steps():
        if record.step == at_step:
            for number in numbers:
                os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_saves_and_ends(number: int, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, save_every=100)
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(TrainingInterrupted, match=r"after step 5 of 12.*same command resumes") as caught:
        ask_to_stop(trainer, number, at_step=5)
    assert caught.value.signal_number == number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    resumed = tiny_trainer(tmp_path, save_every=100)
    assert resumed.first_step == 5
    finish(resumed)
    unbroken = tiny_trainer(None, save_every=100)
    finish(unbroken)
    assert weights(resumed.model) == weights(unbroken.model)


def test_a_request_to_stop_at_a_skipped_step_saves_too(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, save_every=100)
    real, calls = trainer.objective, [0]

    def poisoned(*arguments: Any) -> Any:
        calls[0] += 1
        return real(*arguments) * (float("nan") if calls[0] == 5 else 1.0)

    trainer.objective = poisoned
    with pytest.raises(TrainingInterrupted, match="after step 5 of 12"):
        ask_to_stop(trainer, signal.SIGTERM, at_step=5)
    assert tiny_trainer(tmp_path, save_every=100).first_step == 5


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        ask_to_stop(tiny_trainer(tmp_path), signal.SIGINT, signal.SIGINT, at_step=1)
    assert not isinstance(caught.value, TrainingInterrupted)


def test_a_checkpoint_is_due_after_a_minute_when_no_period_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for _ in tiny_trainer(tmp_path, save_every=None).steps():
        clock[0] += 25.0
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000009", "step-00000012"]


def test_a_run_that_is_finished_has_nothing_left_to_do(tmp_path: Path) -> None:
    done = tiny_trainer(tmp_path)
    finish(done)
    again = tiny_trainer(tmp_path)
    assert again.first_step == 12
    assert finish(again) == []
    assert weights(again.model) == weights(done.model)


def test_other_settings_are_not_mixed_into_an_earlier_run(tmp_path: Path) -> None:
    finish(tiny_trainer(tmp_path))
    with pytest.raises(UserError, match=r"grad_clip = 1\.0, but this run has grad_clip = 0\.5") as caught:
        tiny_trainer(tmp_path, grad_clip=0.5)
    assert "earlier settings" in caught.value.hint


def test_a_resume_takes_the_choice_of_compiling_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for record in tiny_trainer(tmp_path, compile="off").steps():
        if record.step == 3:
            break
    monkeypatch.setattr(
        trainer_module.compilation, "choose_compilation", lambda *a: pytest.fail("chosen anew")
    )
    assert tiny_trainer(tmp_path, compile="off").compile_choice.reason == "as before the interruption"


# ---- metrics


def test_the_log_holds_each_step_once_after_a_resume(tmp_path: Path) -> None:
    def run(first_step: int, end: int) -> None:
        log = MetricsLog(tmp_path, first_step)
        for step in range(first_step + 1, end + 1):
            log.write("step", step, loss=1.0 / step, skipped=False)
        log.close()

    run(0, 7)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 8, "lo')  # what a kill leaves
    run(4, 9)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 10))
    assert list((tmp_path / "tensorboard").iterdir())


def logged(folder: Path, until: int, *extra: str) -> Trainer:
    """Train and log up to step `until`; rows of the kinds `extra` follow that no checkpoint records."""
    trainer = tiny_trainer(folder)
    with trainer.log_metrics(folder) as metrics:
        for record in trainer.steps():
            metrics.write_step(record, {})
            if record.step % 4 == 0:
                metrics.write("validation", record.step, loss=record.loss)
            if record.step == until < 12:
                break
        for kind in extra:
            metrics.write(kind, until, loss=0.0)
    return trainer


def rows(folder: Path) -> list[tuple[str, int, float]]:
    return [(row["kind"], row["step"], row["loss"]) for row in read_metrics(folder / "metrics.jsonl")]


@pytest.mark.parametrize("until", [3, 4, 7, 11, 12])
def test_the_log_is_cut_back_to_the_checkpoint(until: int, tmp_path: Path) -> None:
    """A kill after the last checkpoint, as inside the final save, leaves rows that the resumed run writes again."""
    logged(tmp_path / "unbroken", 12)
    logged(tmp_path / "broken", until, "experts", "validation")
    logged(tmp_path / "broken", 12)
    assert rows(tmp_path / "broken") == rows(tmp_path / "unbroken")


@pytest.mark.parametrize("damage", ["flip", "cut", "row", "empty"])
def test_a_damaged_log_is_refused_by_name_and_the_way_out_helps(damage: str, tmp_path: Path) -> None:
    logged(tmp_path, 7)
    path = tmp_path / "metrics.jsonl"
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    changed = {
        "flip": content.replace(b"0", b"1", 1),
        "cut": content[:100],
        "row": b"".join(lines[:1] + lines[2:]),
        "empty": b"",
    }
    path.write_bytes(changed[damage])
    with pytest.raises(
        CorruptArtifact, match=r"metrics\.jsonl: has changed since the checkpoint after step 6"
    ):
        logged(tmp_path, 12)
    path.unlink()
    logged(tmp_path, 12)
    assert [row["step"] for row in read_metrics(path) if row["kind"] == "step"] == list(range(7, 13))
    assert step_summary(tmp_path)["unlogged_steps"] == 6, "lost rows are noticed"


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    for bad in (b"{}", b"[1]", b"nonsense", b"\xff", b"3"):
        (tmp_path / "metrics.jsonl").write_bytes(b'{"kind": "step", "step": 1}\n' + bad + b"\n")
        with pytest.raises(CorruptArtifact, match=r"metrics\.jsonl: line 2 is damaged"):
            read_metrics(tmp_path / "metrics.jsonl")


# ---- kill -9


def check_killed(found: list[dict[str, Any]], n_kills: int, n_inside: int) -> None:
    assert sum(one["kills"] for one in found) == n_kills
    assert sum(one["inside"] for one in found) >= n_inside
    assert all(one["most_lost"] <= one["save_every"] for one in found)
    assert all(one["left"] == [] for one in found), "half-written checkpoints stay behind"


def test_ten_kills_at_random_moments_some_inside_a_save_change_nothing(tmp_path: Path) -> None:
    check_killed(list(kill_runs(tmp_path, 10, seed=1)), 10, 3)


@pytest.mark.long
def test_a_hundred_kills_change_nothing(tmp_path: Path) -> None:
    check_killed(list(kill_runs(tmp_path, 100, seed=2)), 100, 30)


def test_all_that_a_resume_needs_is_in_the_checkpoint(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    for record in trainer.steps():
        if record.step == 3:
            break
    trainer.precision.scale, trainer.precision.n_good_steps = 512.0, 17
    trainer.guard.n_skipped_in_a_row = 4
    trainer.save(3)
    resumed = tiny_trainer(tmp_path)
    assert (resumed.precision.scale, resumed.precision.n_good_steps) == (512.0, 17)
    assert resumed.guard == trainer.guard
    assert resumed.seconds == trainer.seconds > 0
    actual, reference = trainer.optimizer.state_tensors(), resumed.optimizer.state_tensors()
    assert actual.keys() == reference.keys()
    assert all(actual[name].equal(reference[name]) for name in actual)
    assert {name.rsplit(".", 1)[1] for name in actual} == {
        "momentum",
        "n_steps",
        "first_moment",
        "second_moment",
    }
    assert len(list(tmp_path.glob("step-*"))) == train_state.KEEP
