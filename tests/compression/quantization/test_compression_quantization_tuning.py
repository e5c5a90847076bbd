"""Tuned scales: the same codes, a smaller divergence, and nothing changed where nothing is gained."""

import pytest
import torch

from parakit.compression.quantization import tuning
from parakit.compression.quantization.measurement import OriginalOutputs
from parakit.compression.quantization.tuning import TunedMatrix, tune_rounding
from parakit.model.quantized import QuantScheme, dequantize, make_plan, quantize_modules, quantize_tensor
from parakit.model.quantized.rounding import store_scale
from tests.compression.quantization.test_compression_quantization_methods import kl, tiny, windows

SCHEMES = [
    QuantScheme(bits=4, quant_group_size=32, symmetric=False),
    QuantScheme(bits=4, quant_group_size=32),
    QuantScheme(bits=8),
    QuantScheme(bits=8, quant_group_size=64),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_an_untuned_matrix_is_the_quantized_one(scheme):
    tensor = quantize_tensor(torch.randn(6, 64), scheme)
    matrix = TunedMatrix(tensor)
    torch.testing.assert_close(matrix().detach(), dequantize(tensor))
    assert torch.equal(matrix.tuned().scales, tensor.scales)
    with torch.no_grad():
        matrix.log_gain += 0.1 * torch.randn_like(matrix.log_gain)
    exact = (matrix.scales * matrix.log_gain.exp()).detach()
    stored = matrix.tuned().scales.float()[..., None].detach()
    assert torch.equal(store_scale(stored, scheme), stored)
    assert float(((stored - exact) / exact).abs().max()) < 2**-7  # half a step of 6 bits behind the first


@pytest.mark.parametrize("kind", [{}, {"tie_embeddings": False, "logit_soft_cap": 9.0}])
def test_tuning_lowers_the_divergence_and_keeps_the_codes(kind, monkeypatch):
    monkeypatch.setitem(tuning.LEARNING_RATES, 4, 3e-3)
    model, tokens = tiny(**kind), windows(72)
    outputs = OriginalOutputs(model, tokens[:64])
    plan = make_plan(model, SCHEMES[0], embeddings=SCHEMES[0], head=SCHEMES[0])
    tensors = {
        name: quantize_tensor(model.get_submodule(name).weight, scheme) for name, scheme in plan.items()
    }
    losses = []
    tuned = tune_rounding(model, tensors, outputs, 40, losses.append)
    assert len(losses) == 40
    for name, tensor in tensors.items():
        assert torch.equal(tuned[name].qweight, tensor.qweight)
    untuned = tiny(**kind)
    quantize_modules(untuned, plan, tensors)
    quantize_modules(model, plan, tuned)
    assert kl(model, tiny(**kind), tokens[64:]) < 0.95 * kl(untuned, tiny(**kind), tokens[64:])


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_a_matrix_with_free_codes_begins_at_those_given_and_passes_gradients(scheme):
    weight = torch.randn(6, 64)
    tensor = quantize_tensor(0.7 * weight, scheme)  # codes that are not the closest ones
    matrix = TunedMatrix(tensor, weight)
    torch.testing.assert_close(matrix().detach(), dequantize(tensor))
    assert torch.equal(matrix.tuned().qweight, tensor.qweight)
    gradient = torch.randn(6, 64)
    (matrix() * gradient).sum().backward()
    groups = gradient.unflatten(1, (matrix.scales.shape[1], -1))
    torch.testing.assert_close(matrix.codes.grad, groups * matrix.scales)
    values = dequantize(tensor).unflatten(1, (matrix.scales.shape[1], -1))
    torch.testing.assert_close(matrix.log_gain.grad, (groups * values).sum(-1, keepdim=True))
    with torch.no_grad():
        matrix.codes += torch.randn_like(matrix.codes)
    torch.testing.assert_close(dequantize(matrix.tuned()), matrix().detach())


def test_tuned_codes_lower_the_divergence_further(monkeypatch):
    monkeypatch.setattr(tuning, "CODE_LEARNING_RATE", 1e-2)
    monkeypatch.setattr(tuning, "FREEDOM", 0.49)
    tokens, figures = windows(72), []
    for with_codes in (False, True):
        model = tiny()
        outputs = OriginalOutputs(model, tokens[:64])
        plan = make_plan(model, SCHEMES[0], embeddings=SCHEMES[0])
        weights = {name: model.get_submodule(name).weight.detach().clone() for name in plan}
        tensors = {name: quantize_tensor(weights[name], scheme) for name, scheme in plan.items()}
        tuned = tune_rounding(model, tensors, outputs, 40, weights=weights if with_codes else None)
        quantize_modules(model, plan, tuned)
        figures.append(kl(model, tiny(), tokens[64:]))
    assert figures[1] < 0.95 * figures[0]


def test_tuning_that_gains_nothing_changes_nothing(monkeypatch):
    monkeypatch.setitem(tuning.LEARNING_RATES, 4, 1.0)
    model = tiny()
    outputs = OriginalOutputs(model, windows(9))
    name = "trunk.blocks.0.attention.key"
    tensors = {name: quantize_tensor(model.get_submodule(name).weight, SCHEMES[0])}
    tuned = tune_rounding(model, tensors, outputs, 3)
    assert tuned == tensors
    unchanged = dict(tiny().named_parameters())
    assert all(torch.equal(parameter, unchanged[name]) for name, parameter in model.named_parameters())
