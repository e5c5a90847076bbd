"""Quantization-aware training: rounded weights in the forward pass, straight-through gradients, and an export that computes
the same.
"""

import copy

import pytest
import torch
from torch.nn import functional

from parakit.model.quantized import (
    QuantScheme,
    dequantize,
    is_quantized,
    make_plan,
    quantize_modules,
    quantize_tensor,
)
from parakit.model.quantized.fake_quantization import fake_quantize, finish, prepare
from tests.model.quantized.test_model_quantized_layers import tiny_model
from tests.model.quantized.test_model_quantized_rounding import SCHEMES

HARD = QuantScheme(bits=4)  # a scale for each row: the largest error of 4 bits


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_rounded_values_are_those_of_the_export_and_gradients_pass(scheme):
    weight = torch.randn(4, 64, requires_grad=True)
    rounded = fake_quantize(weight, scheme)
    torch.testing.assert_close(rounded, dequantize(quantize_tensor(weight, scheme)), rtol=1e-6, atol=1e-6)
    gradient = torch.randn(4, 64)
    assert torch.equal(torch.autograd.grad(rounded, weight, gradient)[0], gradient)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_the_exported_model_computes_what_was_trained(tied):
    model = tiny_model(tie_embeddings=tied)
    names = [name for name, _ in model.named_parameters()]
    plain = model(torch.tensor([[1, 2, 3]]))
    prepare(model, make_plan(model, HARD, embeddings=HARD, head=HARD))
    assert [name for name, _ in model.named_parameters()] == names
    trained = model(torch.tensor([[1, 2, 3]]))
    assert not torch.allclose(trained, plain, atol=1e-3)
    finish(model)
    assert is_quantized(model)
    torch.testing.assert_close(model(torch.tensor([[1, 2, 3]])), trained, rtol=1e-3, atol=1e-3)


def text(n_rows, seed):
    """Rows of a random walk that mostly goes on by one: easy to learn, and not by heart."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.where(torch.rand(n_rows, 24, generator=generator) < 0.8, 1, 7)
    return (torch.randint(96, (n_rows, 1), generator=generator) + steps.cumsum(1)) % 96


def loss_of(model, rows):
    return functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def trained_on(model, n_steps, first_seed, rate=3e-3):
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0)
    for step in range(n_steps):
        optimizer.zero_grad()
        loss_of(model, text(16, first_seed + step)).backward()
        optimizer.step()
    return model


def test_training_with_rounded_weights_beats_rounding_after_training():
    model = tiny_model(tie_embeddings=True)
    trained_on(model, 60, 0)
    held_out, plan = text(64, 10_000), make_plan(model, HARD, embeddings=HARD)
    plain = trained_on(copy.deepcopy(model), 40, 100, rate=1e-3)
    rounded = copy.deepcopy(plain)
    quantize_modules(rounded, plan)
    aware = copy.deepcopy(model)
    prepare(aware, plan)
    trained_on(aware, 40, 100, rate=1e-3)
    finish(aware)
    with torch.no_grad():
        exact, after_rounding, after_training = (
            loss_of(one, held_out).item() for one in (plain, rounded, aware)
        )
    assert after_training < after_rounding - 0.3 * (after_rounding - exact)
    assert exact < after_rounding
