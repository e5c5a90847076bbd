"""Products of the compiled kernels: right for every kind of weight, the same bits for a token alone and among others."""

from __future__ import annotations

from ctypes import byref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parakit.model.kernels import layout, load_kernels, quantized_linear
from parakit.model.quantized import QuantScheme, dequantize, quantize_tensor
from tests.short_suite import examples

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C++ compiler")

FLOATS = {torch.float32: layout.FP32, torch.bfloat16: layout.BF16, torch.float16: layout.FP16}
SCHEMES = [
    QuantScheme(bits=bits, quant_group_size=group, symmetric=symmetric)
    for bits in (8, 4)
    for group in (None, 32, 64, 128)
    for symmetric in ((True, False) if bits == 4 else (True,))
]
SIZES = [(37, 70, 23), (5, 1600, 9), (130, 24, 67), (7, 256, 4)]  # tokens, inputs, outputs


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng((seed, *shape)).standard_normal(shape)).float()


def multiply(x, weight, bias=None):
    """x (N, I) by a float matrix (O, I)."""
    library = load_kernels()
    result = torch.full((x.shape[0], weight.shape[0]), 7.0)
    described = layout.Weight(FLOATS[weight.dtype], *weight.shape, 0, weight.data_ptr())
    if bias is not None:
        described.bias, described.bias_kind = bias.data_ptr(), FLOATS[bias.dtype]
    library.parakit_matmul(byref(described), x.data_ptr(), x.shape[0], result.data_ptr(), 2)
    return result


def relative(result, expected):
    return float((result.double() - expected).norm() / expected.norm())


def quantized(x, tensor):
    with torch.no_grad():
        return quantized_linear(x, tensor)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("n", "n_in", "n_out"), SIZES)
def test_float_products_equal_torchs_and_do_not_depend_on_the_other_tokens(dtype, n, n_in, n_out):
    x, weight, bias = draw(n, n_in), draw(n_out, n_in, seed=1).to(dtype), draw(n_out, seed=2).to(dtype)
    result = multiply(x, weight, bias)
    assert relative(result, x.double() @ weight.double().T + bias.double()) < 1e-6
    for first, last in ((0, 1), (1, 4), (2, n), (0, min(n, 6))):
        assert torch.equal(multiply(x[first:last], weight, bias), result[first:last])


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_quantized_products_equal_the_dequantized_matrixs_and_do_not_depend_on_the_other_tokens(scheme):
    for n, n_in, n_out in SIZES:
        if scheme.quant_group_size is not None:
            n_in = max(1, n_in // scheme.quant_group_size) * scheme.quant_group_size
        x, tensor = draw(n, n_in), quantize_tensor(draw(n_out, n_in, seed=1), scheme)
        result = quantized(x, tensor)
        assert relative(result, x.double() @ dequantize(tensor).double().T) < 5e-5
        for first, last in ((0, 1), (1, 4), (2, n), (0, min(n, 6))):
            assert torch.equal(quantized(x[first:last], tensor), result[first:last])


@examples(60)
@given(
    st.integers(1, 80),
    st.integers(1, 90),
    st.integers(1, 40),
    st.sampled_from([*FLOATS, QuantScheme(bits=8), QuantScheme(bits=4), *SCHEMES]),
)
def test_any_sizes(n, n_in, n_out, kind):
    if isinstance(kind, torch.dtype):
        weight = draw(n_out, n_in, seed=1).to(kind)
        x = draw(n, n_in)
        result, expected = multiply(x, weight), x.double() @ weight.double().T
    else:
        n_in = n_in * 2 if kind.quant_group_size is None else (1 + n_in % 4) * kind.quant_group_size
        x, tensor = draw(n, n_in), quantize_tensor(draw(n_out, n_in, seed=1), kind)
        result, expected = quantized(x, tensor), x.double() @ dequantize(tensor).double().T
    scale = float(x.norm(dim=1).max()) * max(1.0, float(n_in) ** 0.5)
    assert (result.double() - expected).abs().max() < 1e-4 * scale
    assert torch.equal(
        result[-1:], multiply(x[-1:], weight) if isinstance(kind, torch.dtype) else quantized(x[-1:], tensor)
    )


@pytest.mark.parametrize("scheme", [QuantScheme(bits=8), QuantScheme(bits=4, quant_group_size=32)], ids=str)
def test_an_outlier_costs_its_group_of_inputs_only(scheme):
    weight = draw(16, 256, seed=1)
    x = draw(9, 256)
    x[:, 3] *= 1e4
    tensor = quantize_tensor(weight, scheme)
    assert relative(quantized(x, tensor), x.double() @ dequantize(tensor).double().T) < 1e-4
    weight[:, :32] = 0  # what the other groups add is as exact as without the outlier
    tensor = quantize_tensor(weight, scheme)
    assert relative(quantized(x, tensor), x.double() @ dequantize(tensor).double().T) < 5e-5


@pytest.mark.parametrize("n", [1, 7])
def test_what_is_not_finite_stays_in_its_token(n):
    tensor = quantize_tensor(draw(8, 64, seed=1), QuantScheme(bits=8))
    x = draw(n + 2, 64)
    x[0, 5], x[1, 6] = float("nan"), float("inf")
    result = quantized(x, tensor)
    assert not result[:2].isfinite().any()
    assert torch.equal(result[2:], quantized(x[2:], tensor))


def test_half_precision_in_gives_half_precision_out_and_gradients_are_left_to_torch():
    tensor = quantize_tensor(draw(8, 64, seed=1), QuantScheme(bits=8))
    x = draw(3, 2, 64)
    assert quantized(x.bfloat16(), tensor).dtype == torch.bfloat16
    assert quantized(x, tensor).shape == (3, 2, 8)
    assert quantized_linear(x.requires_grad_(), tensor) is None
    assert quantized(x.detach().double(), tensor) is None
    assert quantized(x[:0].detach(), tensor) is None
