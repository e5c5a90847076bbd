"""Muon and the grouping of parameters, against derivations of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from parakit.model.config import DecoderConfig, EmbedderConfig, EncoderConfig
from parakit.model.heads import Embedder, RewardModel
from parakit.model.layers.experts import MixtureOfExperts
from parakit.training.optimizers.adamw import AdamW
from parakit.training.optimizers.muon import NEWTON_SCHULZ, Muon, orthogonalize
from parakit.training.optimizers.optimizer import Optimizer, is_matrix
from tests.training.tiny_runs import tiny_model, tiny_plan
from tests.training.tiny_tasks import EXPERTS, SHAPE, classifier, language_model, masked_model, pair_model

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
    actual, expected = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    muon = Muon([("w", actual)], learning_rate=1.0, momentum=0.95)
    torch_muon = torch.optim.Muon([expected], lr=1.0, momentum=0.95, weight_decay=0.0)
    for _ in range(3):
        gradient = torch.randn(shape)
        actual.grad, expected.grad = gradient.clone(), gradient.clone()
        muon.step()
        torch_muon.step()
    assert (
        actual - expected
    ).norm() < 0.08 * expected.norm()  # 8 bits, and each iteration enlarges what is missing


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


@pytest.mark.parametrize("shape", [(3, 4, 7), (3, 7, 4), (1, 5, 5)])
def test_each_expert_of_a_stack_is_a_matrix_of_its_own(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    stack, bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape[1:]))
    alone = [nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    together = Muon([("beside", bias), ("stack", stack)], learning_rate=0.1, weight_decay=0.2)
    singles = [Muon([("w", weight)], learning_rate=0.1, weight_decay=0.2) for weight in alone]
    for _ in range(3):
        stack.grad, bias.grad = torch.randn(shape), torch.randn(shape[1:])
        for weight, gradient, single in zip(alone, stack.grad, singles, strict=True):
            weight.grad = gradient.clone()
            single.step()
        together.step()
    assert torch.allclose(stack, torch.stack(list(alone)), atol=1e-6)
    momentum = together.state_tensors()["stack.momentum"]
    kept = {name: value.clone() for name, value in together.state_tensors().items()}
    assert momentum.shape == shape
    again = Muon([("beside", bias), ("stack", stack)], learning_rate=0.1)
    again.load_state_tensors(kept)
    assert all(torch.equal(value, kept[name]) for name, value in again.state_tensors().items())


def test_an_expert_that_no_token_chose_stays_where_it_is() -> None:
    stack = nn.Parameter(torch.randn(2, 4, 6))
    before = stack.detach().clone()
    muon = Muon([("stack", stack)], learning_rate=0.1)
    stack.grad = torch.stack([torch.randn(4, 6), torch.zeros(4, 6)])
    muon.step()
    assert torch.equal(stack[1], before[1])
    assert not torch.equal(stack[0], before[0])


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


MODELS = {
    "decoder": lambda: language_model(tie_embeddings=False, query_key_norm=True),
    "experts": lambda: language_model(**EXPERTS, n_shared_experts=1),
    "encoder": lambda: masked_model(positions="learned", n_token_types=2, feed_forward_bias=True),
    "low rank": lambda: masked_model(attention="low_rank", low_rank_len=4),
    "relative": pair_model,
    "classifier": classifier,
    "reward": lambda: RewardModel(DecoderConfig(**SHAPE)),
    "embedder": lambda: Embedder(EncoderConfig(**SHAPE), EmbedderConfig()),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_matrices_are_the_weights_of_layers_and_experts_and_nothing_else(name: str) -> None:
    model = MODELS[name]()
    wanted = set()
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and not path.endswith(
            ("lm_head", "label_head", "reward_head", "router")
        ):
            wanted.add(f"{path}.weight")
        if isinstance(module, MixtureOfExperts):
            wanted |= {f"{path}.{part}" for part in ("gate", "up", "down")}
    wanted |= {n for n, _ in model.named_parameters() if n.endswith(("squeeze_key", "squeeze_value"))}
    assert {n for n, p in model.named_parameters() if is_matrix(n, p)} == wanted
    assert wanted
    Optimizer(model, tiny_plan())


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_queries_without_the_usual_scale_are_stepped_as_much_more_finely(optimizer: str) -> None:
    def steps(**shape: float) -> dict[str, float]:
        model = pair_model(**shape)
        stepper = Optimizer(model, tiny_plan(optimizer=optimizer))
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        stepper.step()
        kept = {name: tensor.clone() for name, tensor in stepper.state_tensors().items()}
        again = Optimizer(model, tiny_plan(optimizer=optimizer))
        again.load_state_tensors(kept)
        assert all(torch.equal(tensor, kept[name]) for name, tensor in again.state_tensors().items())
        return {name: (p - before[name]).norm().item() for name, p in model.named_parameters()}

    usual, unscaled = steps(), steps(attention_scale=1.0)
    for name, distance in usual.items():
        share = 6**-0.5 if name.endswith("attention.query.weight") else 1.0
        assert unscaled[name] == pytest.approx(share * distance, rel=1e-4), name


def test_frozen_parameters_are_left_alone() -> None:
    model = tiny_model()
    model.trunk.blocks[0].requires_grad_(False)
    stepper = Optimizer(model, tiny_plan())
    assert len(stepper.parameters) == len([p for p in model.parameters() if p.requires_grad])


def test_adamw_is_its_formula() -> None:
    model = tiny_model()
    plan = tiny_plan(optimizer="adamw", learning_rate=0.01, weight_decay=0.1, adam_betas=(0.8, 0.9))
    stepper = Optimizer(model, plan)
    name, weight = "trunk.blocks.0.attention.query.weight", model.trunk.blocks[0].attention.query.weight
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
    actual = [("a", torch.randn(5, 3)), ("b", torch.randn(7))]
    expected = [value.clone() for _, value in actual]
    mine = AdamW(actual, 0.01, (0.9, 0.95), weight_decay=0.1)
    reference = torch.optim.AdamW(expected, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        for (_, one), other in zip(actual, expected, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
    for (_, one), other in zip(actual, expected, strict=True):
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
