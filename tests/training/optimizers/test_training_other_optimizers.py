"""SGD, Adam and schedule-free, against torch's and a float64 recursion; what they leave out is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.training.config import TextTrainingConfig
from parakit.training.optimizers.adamw import AdamW
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.optimizers.schedule_free import ScheduleFree
from parakit.training.optimizers.schedules import learning_rate_factor
from parakit.training.optimizers.sgd import SGD
from tests.training.tiny_runs import facts, finish, tiny_model, tiny_plan, tiny_trainer, weights

RATES = [0.01, 0.03, 0.03, 0.02]


def twins(shape: tuple[int, ...] = (5, 3)) -> tuple[nn.Parameter, nn.Parameter]:
    torch.manual_seed(0)
    first = nn.Parameter(torch.randn(shape))
    return first, nn.Parameter(first.detach().clone())


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_it_computes_what_torchs_does(kind: str, decay: float) -> None:
    own, other = twins()
    if kind == "sgd":
        optimizer: Any = SGD([("w", own)], 0.1, 0.8, decay)
        reference: Any = torch.optim.SGD([other], 0.1, 0.8, weight_decay=decay)
    else:
        optimizer = AdamW([("w", own)], 0.1, (0.8, 0.9), decay, is_decoupled=False)
        reference = torch.optim.Adam([other], 0.1, (0.8, 0.9), weight_decay=decay)
    for _ in range(5):
        gradient = torch.randn(own.shape)
        own.grad, other.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(own, other, atol=1e-6, rtol=1e-6)


def schedule_free_in_float64(
    start: np.ndarray, gradients: list[np.ndarray], decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """y and x after the steps, kept as three points of their own (Defazio et al. 2024, algorithm 1)."""
    beta1, beta2, eps = 0.8, 0.9, 1e-8
    x, y, z, second, total = start.copy(), start.copy(), start.copy(), np.zeros_like(start), 0.0
    for number, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), 1):
        second = beta2 * second + (1 - beta2) * gradient**2
        z = z - rate * (gradient / (np.sqrt(second / (1 - beta2**number)) + eps) + decay * y)
        total += rate**2
        x = (1 - rate**2 / total) * x + rate**2 / total * z
        y = (1 - beta1) * z + beta1 * x
    return y, x


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_schedule_free_is_its_float64_recursion(decay: float) -> None:
    generator = np.random.default_rng(2)
    start, gradients = generator.normal(size=(4, 3)), [generator.normal(size=(4, 3)) for _ in RATES]
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = ScheduleFree([("w", weight)], 0.0, (0.8, 0.9), decay)
    for gradient, rate in zip(gradients, RATES, strict=True):
        weight.grad, optimizer.learning_rate = torch.tensor(gradient, dtype=torch.float32), rate
        optimizer.step()
    y, x = schedule_free_in_float64(start, gradients, decay)
    np.testing.assert_allclose(weight.detach().numpy(), y, atol=2e-6)
    before = weight.detach().clone()
    with optimizer.averaged():
        np.testing.assert_allclose(weight.detach().numpy(), x, atol=2e-6)
    assert torch.equal(weight, before)
    optimizer.finish()
    np.testing.assert_allclose(weight.detach().numpy(), x, atol=2e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "schedule_free"])
def test_an_interrupted_run_resumes_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    settings = {"optimizer": optimizer, "learning_rate": 0.01, "weight_decay": 0.1, "max_steps": 6}
    whole = tiny_trainer(None, **settings)
    records = finish(whole)
    first = tiny_trainer(tmp_path, **settings)
    for record in first.steps():
        if record.step == 4:
            break
    resumed = tiny_trainer(tmp_path, **settings)
    assert resumed.first_step in (2, 4)
    assert [facts(r) for r in finish(resumed)] == [facts(r) for r in records[resumed.first_step :]]
    assert weights(resumed.model) == weights(whole.model)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "schedule_free"])
def test_the_state_comes_back_under_the_parameters_names(optimizer: str) -> None:
    plan = tiny_plan(optimizer=optimizer, learning_rate=0.01)
    model = tiny_model()
    first = Optimizer(model, plan)
    for parameter in first.parameters:
        parameter.grad = torch.randn_like(parameter)
    first.step()
    kept = {name: tensor.clone() for name, tensor in first.state_tensors().items()}
    second = Optimizer(tiny_model(seed=1), plan)
    second.load_state_tensors(kept)
    assert kept.keys() == second.state_tensors().keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in second.state_tensors().items())


def test_the_linear_schedule_falls_from_the_warm_up_to_its_end() -> None:
    plan = tiny_plan(schedule="linear", max_steps=12, warmup_steps=2, final_fraction=0.1)
    factors = [learning_rate_factor(plan, step) for step in range(12)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[2:] == pytest.approx([1 - 0.9 * i / 10 for i in range(10)])


def test_schedule_free_has_a_constant_rate() -> None:
    plan = tiny_plan(optimizer="schedule_free", warmup_steps=2)
    assert (plan.schedule, plan.final_fraction) == ("constant", 1.0)
    assert [learning_rate_factor(plan, step) for step in (0, 1, 11)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "schedule_free", "schedule": "cosine"}, "averages instead"),
        ({"optimizer": "sgd", "learning_rate": 0.1, "adam_betas": [0.9, 0.9]}, "`adam_betas` is set"),
    ],
)
def test_a_setting_that_the_optimizer_does_not_have_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        TextTrainingConfig.parse(settings)


def test_sgd_needs_a_learning_rate() -> None:
    with pytest.raises(UserError, match="no learning rate of its own"):
        tiny_plan(optimizer="sgd")
