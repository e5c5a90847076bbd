"""Best weights, an early end, and the measurements of a step, against derivations of their own."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.training import trainer as trainer_module
from parakit.training.doctor.setup import TrainingSetup
from parakit.training.metrics import METRICS, MetricsLog, read_metrics
from parakit.training.monitoring.best_weights import BestWeights
from parakit.training.monitoring.dynamics import Dynamics, GradientNoise
from parakit.training.monitoring.settings import MonitoringSettings
from parakit.training.monitoring.trackers import check_tracker
from parakit.training.objectives import next_token
from parakit.training.tasks import TASKS, TrainingTask
from parakit.training.trainer import Trainer, train
from tests.training.tiny_runs import tiny_model, tiny_plan, tiny_source, weights


def model_of(value: float) -> nn.Linear:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def record(best: BestWeights, step: int, loss: float) -> None:
    if best.keeps(step, {"loss": loss}):
        best.keep(step, {"loss": loss}, {"weight": torch.full((1, 2), float(step))})
    best.record(step, {"loss": loss})


def test_the_weights_of_the_lowest_loss_come_back(tmp_path: Path) -> None:
    best = BestWeights(tmp_path, MonitoringSettings(final_weights="best"))
    for step, loss in [(1, 3.0), (2, 2.0), (3, 2.0), (4, 2.5)]:
        record(best, step, loss)
    model = model_of(9.0)
    assert best.restore(model, 4) == (2, {"loss": 2.0})
    assert model.weight.tolist() == [[2.0, 2.0]]
    assert not best.is_over
    assert BestWeights(tmp_path, MonitoringSettings(), 4).restore(model, 4) is None


def test_patience_counts_validations_since_the_best() -> None:
    best = BestWeights(Path("unused"), MonitoringSettings(patience=2, final_weights="last"))
    best.folder = None
    over = []
    for step, loss in [(1, 3.0), (2, 3.5), (3, 2.9), (4, float("nan")), (5, 2.9)]:
        best.record(step, {"loss": loss})
        over.append(best.is_over)
    assert over == [False, False, False, False, True]


def test_a_resumed_run_forgets_later_validations(tmp_path: Path) -> None:
    settings = MonitoringSettings(patience=3)
    best = BestWeights(tmp_path, settings)
    for step, loss in [(1, 3.0), (2, 2.0), (3, 1.0)]:
        record(best, step, loss)
    again = BestWeights(tmp_path, settings, first_step=2)
    assert (again.has(2), again.has(3)) == (True, False)
    assert again.best == (2, {"loss": 2.0})
    assert again.restore(model_of(0.0), 9) is None  # its weights were replaced by those of step 3
    record(again, 3, 1.0)
    assert again.restore(model_of(0.0), 9) == (3, {"loss": 1.0})


def test_a_method_without_a_validation_loss_is_refused(tmp_path: Path) -> None:
    best = BestWeights(tmp_path, MonitoringSettings(patience=1))
    with pytest.raises(UserError, match="follow the validation loss"):
        best.keeps(1, {"reward": 0.5})


def test_the_noise_scale_is_that_of_the_gradients_drawn() -> None:
    """Gradients of n examples: a true one plus noise of variance 4 in each of 50 coordinates, over n."""
    generator = np.random.default_rng(3)
    true = np.full(50, 0.5)
    noise, wanted = GradientNoise(), (4 * 50) / (0.25 * 50)
    for _ in range(400):
        counts = [6, 10, 16]
        parts = [true + 2 * generator.normal(size=50) / np.sqrt(count) for count in counts]
        whole = sum(count * part for count, part in zip(counts, parts, strict=True)) / sum(counts)
        squares = [(float(part @ part), count) for part, count in zip(parts, counts, strict=True)]
        noise.add(squares, (float(whole @ whole), sum(counts)))
    assert noise.scale == pytest.approx(wanted, rel=0.25)
    assert GradientNoise().scale is None


def test_parts_and_updates_of_a_step_are_measured() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    dynamics = Dynamics(2, [weight])
    assert [dynamics.begins(step) for step in range(4)] == [False, True, False, True]
    scale, counts = 8.0, [1, 3]
    gradients = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])]  # of each part's own mean
    weight.grad = torch.zeros(2)
    for gradient, count in zip(gradients, counts, strict=True):
        weight.grad += scale * gradient * count / sum(counts)
        dynamics.add_part(count, sum(counts), scale)
    assert dynamics.parts == [(pytest.approx(1.0), 1), (pytest.approx(4.0), 3)]
    dynamics.before_update(1.0, 4)
    weight.data -= torch.tensor([0.3, 0.4])
    dynamics.after_update()
    assert dynamics.figures["update_ratio"] == pytest.approx(0.1)


def test_settings_say_which_weights_are_kept() -> None:
    def keeps(**settings: Any) -> bool:
        return MonitoringSettings(**settings).keeps_best

    assert not keeps()
    assert keeps(patience=2)
    assert keeps(final_weights="best")
    assert not keeps(patience=2, final_weights="last")


def scripted(tmp_path: Path, losses: dict[int, float], **settings: Any) -> TrainingSetup:
    """A run of twelve steps with a validation after each, which finds these losses."""
    model, plan = tiny_model(), tiny_plan(validate_every=1, save_every=4)
    found = iter(range(1, 99))
    task = TrainingTask(
        TASKS["next_token"],
        tiny_source(),
        None,
        next_token,
        lambda _: {"loss": losses.get(next(found), 9.0)},
    )
    monitoring = MonitoringSettings(**settings)
    return TrainingSetup("t", model, None, task, plan, tmp_path, monitoring=monitoring)  # type: ignore[arg-type]


def test_a_run_ends_after_patience_and_has_the_best_weights(tmp_path: Path) -> None:
    setup = scripted(tmp_path, {1: 3.0, 2: 2.0, 3: 2.5, 4: 2.4, 5: 1.0}, patience=2)
    figures = train(setup)
    assert (figures["steps"], figures["best_step"], figures["loss"]) == (4, 2, 2.0)
    until_second = tiny_trainer_like(setup, 2)
    assert weights(setup.model) == until_second
    assert [row["step"] for row in read_metrics(tmp_path / METRICS) if row["kind"] == "validation"] == [
        1,
        2,
        3,
        4,
    ]


def tiny_trainer_like(setup: TrainingSetup, n_steps: int) -> dict[str, bytes]:
    """The weights after some steps of the same run without validations."""
    trainer = Trainer(tiny_model(), tiny_source(), next_token, setup.plan, None)
    for record in trainer.steps():
        if record.step == n_steps:
            break
    return weights(trainer.model)


def test_the_last_weights_stay_where_nothing_else_is_set(tmp_path: Path) -> None:
    setup = scripted(tmp_path, {step: float(step) for step in range(1, 13)})
    figures = train(setup)
    assert (figures["steps"], figures["loss"]) == (12, 12.0)
    assert "best_step" not in figures
    assert weights(setup.model) == tiny_trainer_like(setup, 12)


@pytest.mark.parametrize("keep", [1, 3])
def test_so_many_checkpoints_stay(keep: int, tmp_path: Path) -> None:
    train(scripted(tmp_path, {}, keep_checkpoints=keep))
    names = sorted(path.name for path in tmp_path.glob("step-*"))
    assert names == [f"step-{step:08d}" for step in (4, 8, 12)][-keep:]


def test_a_checkpoint_before_a_validation_is_resumed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "RECENT_SECONDS", 0.0)
    setup = scripted(tmp_path, {})

    def fails(_: Any) -> dict[str, float]:
        raise RuntimeError("out of memory in a validation")

    with pytest.raises(RuntimeError):
        train(replace(setup, task=replace(setup.task, validate=fails)))
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000001"]
    again = scripted(tmp_path, {1: 0.5})
    train(again)
    rows = [row for row in read_metrics(tmp_path / METRICS) if row["kind"] == "validation"]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[0]["loss"] == 0.5
    assert weights(again.model) == tiny_trainer_like(again, 12)


def test_metrics_have_the_dynamics_at_their_steps(tmp_path: Path) -> None:
    setup = scripted(tmp_path, {}, dynamics_every=4)
    train(replace(setup, plan=setup.plan.replace(micro_batch_size=2)))
    rows = [row for row in read_metrics(tmp_path / METRICS) if row["kind"] == "step"]
    measured = {row["step"]: row["update_ratio"] for row in rows if "update_ratio" in row}
    assert sorted(measured) == [4, 8, 12]
    assert all(1e-4 < ratio < 0.5 for ratio in measured.values())
    plain = scripted(tmp_path / "plain", {})
    train(replace(plain, plan=plain.plan.replace(micro_batch_size=2)))
    assert weights(plain.model) == weights(setup.model)  # measuring changes no step


def test_numbers_go_to_the_tracker_and_the_rest_to_the_log_only(tmp_path: Path) -> None:
    class Numbers:
        def __init__(self) -> None:
            self.rows: list[tuple[int, dict[str, float]]] = []
            self.is_closed = False

        def log(self, figures: Mapping[str, float], step: int) -> None:
            self.rows.append((step, dict(figures)))

        def close(self) -> None:
            self.is_closed = True

    tracker = Numbers()
    with MetricsLog(tmp_path, tracker=lambda: tracker) as metrics:
        metrics.write("step", 1, loss=2.0, skipped=False, note="text", missing=None)
        metrics.write("sample", 1, samples=[{"text": "a"}])
    assert tracker.rows == [(1, {"step/loss": 2.0})]
    assert tracker.is_closed
    assert len(read_metrics(tmp_path / METRICS)) == 2


def test_a_tracker_that_is_not_installed_is_an_error_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_tracker("tensorboard")
    with pytest.raises(UserError, match="wandb is not installed"):
        check_tracker("wandb")
