"""Quantized layers compute what plain layers with the dequantized weights compute, forward and backward."""

import copy

import pytest
import torch
from torch.nn import functional

from parakit.common.errors import UserError
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from parakit.model.quantized import (
    QuantizedEmbedding,
    QuantizedLinear,
    QuantScheme,
    dequantize_modules,
    is_quantized,
    make_plan,
    quantizable,
    quantize_modules,
    quantize_tensor,
    quantized_modules,
    rounding,
    tied_heads,
)
from tests.model.quantized.test_model_quantized_rounding import SCHEMES

INT4 = SCHEMES["int4 groups"]


@pytest.fixture(autouse=True)
def _in_pytorch(monkeypatch):
    """The compiled kernels round inputs to 15 bits: tests/model/kernels compares them."""
    monkeypatch.setenv("PARAKIT_KERNELS", "off")


def tiny_model(**changes):
    torch.manual_seed(0)
    settings = {
        "vocab_size": 96,
        "d_model": 64,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 2,
        "head_dim": 32,
        "max_seq_len": 32,
        "d_ff": 128,
    }
    model = LanguageModel(DecoderConfig(**settings | changes)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("block_values", [rounding.BLOCK_VALUES, 200])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_layer_computes_the_product_with_its_dequantized_weight(scheme, block_values, monkeypatch):
    for module in ("rounding", "layers"):
        monkeypatch.setattr(f"parakit.model.quantized.{module}.BLOCK_VALUES", block_values)
    weight, bias = torch.randn(10, 64), torch.nn.Parameter(torch.randn(10))
    layer = QuantizedLinear(64, 10, scheme, bias)
    layer.quantized = quantize_tensor(weight, scheme)
    x = torch.randn(2, 3, 64, requires_grad=True)
    expected = functional.linear(x, layer.weight, bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    gradient = torch.randn_like(expected)
    gradients = torch.autograd.grad(layer(x), (x, bias), gradient)
    for one, other in zip(gradients, torch.autograd.grad(expected, (x, bias), gradient), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_an_embedding_looks_up_its_dequantized_rows(scheme):
    embedding = QuantizedEmbedding(9, 64, scheme)
    embedding.quantized = quantize_tensor(torch.randn(9, 64), scheme)
    ids = torch.tensor([[0, 8, 3], [3, 3, 1]])
    assert torch.equal(embedding(ids), functional.embedding(ids, embedding.weight))


def test_rounded_activations_are_int8_of_each_token():
    scheme = QuantScheme(bits=8, activation_bits=8)
    layer = QuantizedLinear(32, 4, scheme)
    layer.quantized = quantize_tensor(torch.randn(4, 32), scheme)
    x = torch.randn(5, 32) * torch.logspace(-3, 3, 5)[:, None]
    scale = x.abs().amax(1, keepdim=True) / 127.5
    expected = (
        ((x / scale).round().clamp(max=127).double() @ layer.qweight.double().T) * scale * layer.scales.T
    )
    torch.testing.assert_close(layer(x), expected.float(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(layer(x), functional.linear(x, layer.weight), rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scheme", [SCHEMES["int8 rows"], SCHEMES["int4 groups with zeros"]])
def test_a_quantized_model_computes_what_its_dequantized_copy_does(scheme, tied):
    model = tiny_model(tie_embeddings=tied)
    quantize_modules(model, make_plan(model, scheme, embeddings=INT4, head=scheme))
    plain = copy.deepcopy(model)
    dequantize_modules(plain)
    assert is_quantized(model)
    assert not is_quantized(plain)
    assert (plain.lm_head.weight is plain.trunk.token_embedding.weight) == tied
    ids = torch.randint(96, (2, 7))
    torch.testing.assert_close(model(ids), plain(ids), rtol=1e-4, atol=1e-5)
    assert tied_heads(model) == ({"lm_head": "trunk.token_embedding"} if tied else {})


def test_a_tied_head_shares_the_buffers_of_its_embedding_through_copies_moves_and_casts():
    model = tiny_model(tie_embeddings=True)
    quantize_modules(model, make_plan(model, INT4, embeddings=INT4))
    for changed in (
        copy.deepcopy(model),
        copy.deepcopy(model).to(torch.bfloat16),
        copy.deepcopy(model).share_memory(),
    ):
        assert changed.lm_head.qweight is changed.trunk.token_embedding.qweight
        assert changed.lm_head.scales.dtype == torch.float16
    assert changed.lm_head.qweight is not model.lm_head.qweight
    assert sum("qweight" in name for name in model.state_dict()) == len(quantized_modules(model))
    lower = copy.deepcopy(model).to(torch.bfloat16)
    assert lower(torch.tensor([[1, 2, 3]])).dtype == torch.bfloat16


def test_what_may_be_quantized_is_every_matrix_but_the_small_ones():
    model = tiny_model(tie_embeddings=True)
    names = quantizable(model)
    assert "trunk.token_embedding" in names
    assert "lm_head" not in names
    assert len(names) == 1 + 2 * 7
    plan = make_plan(model, INT4, ignore=["down", "trunk.blocks.0.attention.query"])
    assert len(plan) == 2 * 6 - 1
    assert not any(name.endswith("down") for name in plan)


def test_naming_a_tied_head_quantizes_its_embedding():
    model = tiny_model(tie_embeddings=True)
    quantize_modules(model, {"lm_head": INT4})
    assert list(quantized_modules(model)) == ["trunk.token_embedding"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trunk.blocks.0.attention.qury", "is not a module of this model"),
        ("trunk.final_norm", "is a RMSNorm"),
        ("trunk.blocks.0.feed_forward.up", "holds all experts in one parameter"),
        ("trunk.blocks.0.attention.query", "48 inputs are not a multiple"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_and_changes_nothing(name, message):
    experts = {"n_experts": 4, "n_active_experts": 2} if "feed_forward" in name else {}
    model = tiny_model(d_model=48, **experts) if "query" in name else tiny_model(**experts)
    with pytest.raises(UserError, match=message):
        quantize_modules(model, {"lm_head": QuantScheme(bits=8), name: INT4})
    assert not is_quantized(model)
