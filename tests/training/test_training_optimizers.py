"""Muon and the grouping of parameters, against derivations of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from parakit.training.adamw import AdamW
from parakit.training.muon import NEWTON_SCHULZ, Muon, orthogonalize
from parakit.training.optimizers import Optimizer, is_matrix
from tests.training.tiny_runs import tiny_model, tiny_plan

SHAPES = [(6, 6), (4, 9), (9, 4), (1, 5), (16, 3)]


def reference_update(momentum: np.ndarray) -> np.ndarray:
    """Newton-Schulz acts on singular values alone: s -> a s + b s^3 + c s^5, five times, from s / |M|."""
    a, b, c = NEWTON_SCHULZ
    u, s, vt = np.linalg.svd(momentum, full_matrices=False)
    s = s / (np.sqrt((s**2).sum()) + 1e-7)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return u * s @ vt


def reference_muon(
    weight: np.ndarray, gradients: list[np.ndarray], rate: float, momentum: float, decay: float
) -> np.ndarray:
    buffer = np.zeros_like(weight)
    for gradient in gradients:
        buffer = momentum * buffer + (1 - momentum) * gradient
        update = reference_update((1 - momentum) * gradient + momentum * buffer)
        weight = weight * (1 - rate * decay)
        weight = weight - rate * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5 * update
    return weight


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_muon_is_its_float64_derivation(shape: tuple[int, int], decay: float) -> None:
    generator = np.random.default_rng(1)
    start, gradients = generator.normal(size=shape), [generator.normal(size=shape) for _ in range(4)]
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float32))
    muon = Muon([("w", weight)], learning_rate=0.05, momentum=0.9, weight_decay=decay)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        muon.step()
    wanted = reference_muon(start, gradients, 0.05, 0.9, decay)
    np.testing.assert_allclose(weight.detach().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_is_close_to_that_of_torch_which_iterates_in_bfloat16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    muon = Muon([("w", ours)], learning_rate=1.0, momentum=0.95)
    torch_muon = torch.optim.Muon([theirs], lr=1.0, momentum=0.95, weight_decay=0.0)
    for _ in range(3):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        torch_muon.step()
    assert (
        ours - theirs
    ).norm() < 0.08 * theirs.norm()  # 8 bits, and each iteration enlarges what is missing


def test_matrices_of_one_shape_do_not_mix() -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(4, 7), torch.randn(7, 4), torch.randn(4, 7)]
    together = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    muon = Muon([(str(i), w) for i, w in enumerate(together)], learning_rate=0.1)
    for weight, gradient in zip(together, gradients, strict=True):
        weight.grad = gradient.clone()
    muon.step()
    for weight, gradient in zip(together, gradients, strict=True):
        alone = nn.Parameter(torch.zeros_like(gradient))
        single = Muon([("w", alone)], learning_rate=0.1)
        alone.grad = gradient.clone()
        single.step()
        assert torch.allclose(weight, alone, atol=1e-6)


def test_an_update_has_singular_values_near_one_whatever_the_gradients_size() -> None:
    for scale in (1e-4, 1.0, 1e5):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(3, 8, 20) * scale))
        assert values.min() > 0.5
        assert values.max() < 1.3
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 5)), torch.zeros(1, 3, 5))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("tied", [True, False])
def test_weight_decay_falls_on_matrices_and_on_nothing_else(optimizer: str, tied: bool) -> None:
    model = tiny_model(tie_embeddings=tied)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    stepper = Optimizer(model, tiny_plan(optimizer=optimizer, weight_decay=0.5, learning_rate=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stepper.step()
    for name, parameter in model.named_parameters():
        wanted = (
            before[name] * (1 - 0.1 * 0.5)
            if ".attention." in name or ".feed_forward." in name
            else before[name]
        )
        if name.endswith(("query_norm.weight", "key_norm.weight")):
            wanted = before[name]
        assert torch.allclose(parameter, wanted, atol=1e-7), name


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_parameter_is_stepped_once_and_tied_ones_are_not_counted_twice(optimizer: str) -> None:
    for tied in (True, False):
        model = tiny_model(tie_embeddings=tied)
        stepper = Optimizer(model, tiny_plan(optimizer=optimizer))
        of_rest, of_matrices = stepper.parts
        assert isinstance(of_rest, AdamW)
        rest = [p for _, p in of_rest.named]
        if isinstance(of_matrices, Muon):
            matrices = [w for ws in of_matrices.groups.values() for _, w in ws]
        else:
            matrices = [p for _, p in of_matrices.named]
        assert sorted(map(id, rest + matrices)) == sorted(map(id, model.parameters()))
        names = dict(model.named_parameters())
        in_matrices = {name for name, p in names.items() if any(p is w for w in matrices)}
        assert in_matrices == {n for n in names if is_matrix(n, names[n])}
        assert len([n for n in names if is_matrix(n, names[n])]) == 2 * 7


def test_frozen_parameters_are_left_alone() -> None:
    model = tiny_model()
    model.decoder.blocks[0].requires_grad_(False)
    stepper = Optimizer(model, tiny_plan())
    assert len(stepper.parameters) == len([p for p in model.parameters() if p.requires_grad])


def test_adamw_is_its_formula() -> None:
    model = tiny_model()
    plan = tiny_plan(optimizer="adamw", learning_rate=0.01, weight_decay=0.1, adam_betas=(0.8, 0.9))
    stepper = Optimizer(model, plan)
    name, weight = "decoder.blocks.0.attention.query.weight", model.decoder.blocks[0].attention.query.weight
    assert name in dict(model.named_parameters())
    value = weight.detach().double().clone()
    first = second = torch.zeros_like(value)
    for step in range(1, 4):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        assert weight.grad is not None
        gradient = weight.grad.double()
        stepper.step()
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        value = value * (1 - 0.01 * 0.1)
        value = value - 0.01 * (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
    assert torch.allclose(weight.double(), value, atol=1e-6)


def test_adamw_steps_as_torch_does() -> None:
    torch.manual_seed(0)
    ours = [("a", torch.randn(5, 3)), ("b", torch.randn(7))]
    theirs = [value.clone() for _, value in ours]
    mine = AdamW(ours, 0.01, (0.9, 0.95), weight_decay=0.1)
    reference = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        for (_, one), other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
    for (_, one), other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_factor_scales_every_learning_rate(optimizer: str) -> None:
    def moved(factor: float) -> dict[str, float]:
        model = tiny_model(tie_embeddings=False)
        stepper = Optimizer(model, tiny_plan(optimizer=optimizer))
        torch.manual_seed(0)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        stepper.set_factor(factor)
        stepper.step()
        return {name: (p - before[name]).norm().item() for name, p in model.named_parameters()}

    full, half, none = moved(1.0), moved(0.5), moved(0.0)
    assert set(none.values()) == {0.0}
    for name, distance in full.items():
        assert half[name] == pytest.approx(distance / 2, rel=1e-3), name
