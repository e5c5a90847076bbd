"""Rounding to int8 and int4: the layout, the error bound of half a step, and scales of least squared error."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays

from parakit.common.errors import UserError
from parakit.model.quantized import QuantScheme, dequantize, quantize_tensor
from parakit.model.quantized.rounding import pack_nibbles, unpack_nibbles

SCHEMES = {
    "int8 rows": QuantScheme(bits=8),
    "int8 groups": QuantScheme(bits=8, quant_group_size=32),
    "int4 rows": QuantScheme(bits=4),
    "int4 groups": QuantScheme(bits=4, quant_group_size=32),
    "int4 rows with zeros": QuantScheme(bits=4, symmetric=False),
    "int4 groups with zeros": QuantScheme(bits=4, quant_group_size=32, symmetric=False),
}
schemes = st.sampled_from(list(SCHEMES.values()))
finite = st.floats(-1e4, 1e4, width=32)


@given(
    codes=arrays(
        "uint8",
        st.tuples(st.integers(0, 3), st.integers(0, 8).map(lambda n: 2 * n)),
        elements=st.integers(0, 15),
    )
)
def test_packed_codes_are_read_again_low_nibble_first(codes):
    packed = pack_nibbles(torch.from_numpy(codes))
    assert packed.shape == (codes.shape[0], codes.shape[1] // 2)
    assert torch.equal(unpack_nibbles(packed), torch.from_numpy(codes))
    assert torch.equal(packed & 15, torch.from_numpy(codes)[:, 0::2])


@given(scheme=schemes, values=arrays("float32", (3, 64), elements=finite))
def test_no_value_errs_by_more_than_half_a_step(scheme, values):
    weight = torch.from_numpy(values)
    rounded = quantize_tensor(weight, scheme)
    error = (dequantize(rounded) - weight).abs().unflatten(1, (rounded.scales.shape[1], -1))
    step = rounded.scales.float()[..., None]
    assert (error <= step * 0.5001 + 1e-30).all()


@given(scheme=schemes, values=arrays("float32", (2, 64), elements=finite))
def test_values_on_the_grid_come_back_unchanged(scheme, values):
    """What was dequantized once is quantized again with the same codes and scales of the first time."""
    once = dequantize(quantize_tensor(torch.from_numpy(values), scheme))
    again = dequantize(quantize_tensor(once, scheme))
    steps = quantize_tensor(once, scheme).scales.float().repeat_interleave(64 // max(1, scheme.groups(64)), 1)
    assert ((again - once).abs() <= steps * 0.5001 + 1e-30).all()


@given(symmetric=st.booleans(), search=st.booleans(), values=arrays("float32", (2, 64), elements=finite))
def test_the_values_of_4_bit_groups_are_exact_in_float16(symmetric, search, values):
    scheme = QuantScheme(bits=4, quant_group_size=32, symmetric=symmetric)
    rounded = dequantize(quantize_tensor(torch.from_numpy(values), scheme, search=search))
    assert torch.equal(rounded.half().float(), rounded)


@given(scheme=schemes, values=arrays("float32", (2, 64), elements=finite))
def test_the_search_never_has_more_squared_error_than_plain_rounding(scheme, values):
    weight = torch.from_numpy(values)
    plain, searched = (
        (dequantize(quantize_tensor(weight, scheme, search=search)) - weight).double().square().sum()
        for search in (False, True)
    )
    assert searched <= plain * (1 + 1e-5)


@pytest.mark.parametrize("scheme", [SCHEMES["int4 groups"], SCHEMES["int4 groups with zeros"]])
def test_the_search_lowers_the_error_of_normal_weights(scheme):
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    plain, searched = (
        (dequantize(quantize_tensor(weight, scheme, search=search)) - weight).square().mean().item()
        for search in (False, True)
    )
    assert searched < 0.93 * plain


def test_8_bits_in_groups_of_32_find_the_grid_that_weights_are_on():
    generator = torch.Generator().manual_seed(0)
    steps, lowest = (
        torch.rand(64, 2, 1, generator=generator) + 0.5,
        torch.randn(64, 2, 1, generator=generator),
    )
    codes = torch.randint(0, 16, (64, 2, 32), generator=generator)
    on_grid = (codes * steps + lowest - 8 * steps).flatten(1)  # as in a GGUF file of Q4_1

    def gain(weight):
        plain, searched = (
            (
                dequantize(quantize_tensor(weight, QuantScheme(bits=8, quant_group_size=32), search=search))
                - weight
            )
            .square()
            .mean()
            for search in (False, True)
        )
        return plain / searched

    assert gain(on_grid) > 4
    assert 1 <= gain(torch.randn(64, 64, generator=generator)) < 1.5


def test_the_search_favours_important_inputs():
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    importance = torch.ones(32)
    importance[:4] = 100.0
    scheme = SCHEMES["int4 groups"]
    of_all, weighted = (
        (dequantize(quantize_tensor(weight, scheme, search=True, importance=one)) - weight)[:, :4]
        .square()
        .mean()
        for one in (None, importance)
    )
    assert weighted < 0.7 * of_all


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_stored_bytes_are_those_that_the_scheme_states(scheme):
    rounded = quantize_tensor(torch.randn(6, 64), scheme)
    tensors = [rounded.qweight, rounded.scales, *([] if rounded.zeros is None else [rounded.zeros])]
    assert sum(tensor.nbytes for tensor in tensors) == scheme.n_bytes((6, 64))
    assert rounded.shape == (6, 64)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("value", [0.0, 1e-30, 3.0])
def test_constant_rows_are_finite_and_exact_to_half_a_step(scheme, value):
    rounded = quantize_tensor(torch.full((2, 64), value), scheme)
    assert (dequantize(rounded) - value).abs().max() <= rounded.scales.float().max() * 0.5001


def test_a_matrix_too_small_for_its_group_is_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"48 inputs are not a multiple of the group size 32"):
        quantize_tensor(torch.ones(2, 48), SCHEMES["int4 groups"])
    with pytest.raises(UserError, match="odd number"):
        quantize_tensor(torch.ones(2, 5), SCHEMES["int4 rows"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad):
    weight = torch.ones(2, 32)
    weight[1, 3] = bad
    with pytest.raises(UserError, match="NaN or infinity"):
        quantize_tensor(weight, SCHEMES["int8 rows"])


def test_scales_beyond_float16_are_refused():
    with pytest.raises(UserError, match="4096 is the limit of float16 scales"):
        quantize_tensor(torch.full((1, 32), 1e7), SCHEMES["int4 groups"])


def test_eight_bits_have_no_zero_points():
    with pytest.raises(UserError, match="8 bits are symmetric"):
        QuantScheme.parse({"bits": 8, "symmetric": False})
