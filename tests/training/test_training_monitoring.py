"""Best weights, an early end, and the measurements of a step, against derivations of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.training.monitoring.best_weights import BestWeights
from parakit.training.monitoring.dynamics import Dynamics, GradientNoise
from parakit.training.monitoring.settings import MonitoringSettings


def model_of(value: float) -> nn.Linear:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def record(best: BestWeights, step: int, loss: float) -> None:
    best.record(step, {"loss": loss}, {"weight": torch.full((1, 2), float(step))})


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
        best.record(step, {"loss": loss}, {})
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
        best.record(1, {"reward": 0.5}, {})


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
    dynamics = Dynamics(every=2)
    assert [dynamics.begins(step) for step in range(4)] == [False, True, False, True]
    scale, counts = 8.0, [1, 3]
    gradients = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])]  # of each part's own mean
    weight.grad = torch.zeros(2)
    for gradient, count in zip(gradients, counts, strict=True):
        weight.grad += scale * gradient * count / sum(counts)
        dynamics.add_part([weight], count, sum(counts), scale)
    assert dynamics.parts == [(pytest.approx(1.0), 1), (pytest.approx(4.0), 3)]
    dynamics.before_update([weight], 1.0, 4)
    weight.data -= torch.tensor([0.3, 0.4])
    dynamics.after_update([weight])
    assert dynamics.figures["update_ratio"] == pytest.approx(0.1)


def test_settings_say_which_weights_are_kept() -> None:
    def keeps(**settings: Any) -> bool:
        return MonitoringSettings(**settings).keeps_best

    assert not keeps()
    assert keeps(patience=2)
    assert keeps(final_weights="best")
    assert not keeps(patience=2, final_weights="last")
