"""How much each matrix matters, and the bits that follow under a size budget."""

import pytest
import torch

from parakit.common.errors import UserError
from parakit.compression.quantization.config import QuantizeConfig
from parakit.compression.quantization.plan import plan_bytes, plan_quantization
from parakit.compression.quantization.sensitivity import Sensitivity, choose_bits, measure_sensitivity
from parakit.model.quantized import dequantize, quantizable, quantize_tensor
from tests.compression.quantization.test_compression_quantization_methods import tiny, windows

BUDGET = QuantizeConfig(size_budget="45kB")


def plans(model):
    names = plan_quantization(model, BUDGET).schemes
    return {bits: plan_quantization(model, BUDGET, dict.fromkeys(names, bits)) for bits in (4, 8)}


def test_the_kl_of_a_matrix_is_that_of_the_model_with_it_alone_rounded():
    model, tokens = tiny(), windows(2)
    schemes = plans(model)[4].schemes
    found = {one.name: one.kl for one in measure_sensitivity(model, tokens, schemes, search=True)}
    for name in ("trunk.token_embedding", "trunk.blocks.0.attention.key", "trunk.blocks.1.feed_forward.down"):
        one = tiny()
        with torch.no_grad():
            weight = one.get_submodule(name).weight
            weight.copy_(dequantize(quantize_tensor(weight, schemes[name], search=True)))
            p, q = (m.double()(tokens).log_softmax(-1) for m in (tiny(), one))
        assert found[name] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3, abs=1e-8)
    unchanged = dict(tiny().named_parameters())
    assert all(torch.equal(parameter, unchanged[name]) for name, parameter in model.named_parameters())


def rows(model, plan, kl):
    shapes = quantizable(model)
    return [
        Sensitivity(name, scheme.bits, kl(name, scheme.bits), scheme.n_bytes(shapes[name]), 4096)
        for name, scheme in plan.schemes.items()
    ]


def test_more_bits_go_to_what_matters_and_the_budget_is_kept():
    model = tiny()
    both = plans(model)
    important = "trunk.blocks.1.attention.value"
    by_bits = {
        bits: rows(model, plan, lambda name, bits: (1 + 9 * (name == important)) / bits**2)
        for bits, plan in both.items()
    }
    smallest = plan_bytes(model, both[4].schemes)
    largest = plan_bytes(model, both[8].schemes)
    for budget in (smallest, smallest + 3000, (smallest + largest) // 2, largest, 10 * largest):
        bits, report = choose_bits(model, BUDGET, budget, by_bits)
        assert plan_bytes(model, plan_quantization(model, BUDGET, bits).schemes) <= budget
        assert (bits[important] == 8) == (budget > smallest)
        assert [one.name for one in report if one.chosen] == list(bits)
    assert set(bits.values()) == {8}
    with pytest.raises(
        UserError, match=r"budget of 0.0 MB, and with 4 bits everywhere the weights need 0\.0 MB"
    ):
        choose_bits(model, BUDGET, smallest - 1, by_bits)


def test_matrices_that_a_folder_stores_as_one_get_the_same_bits():
    kind = {"parallel_residual": True, "norm": "layer", "norm_bias": True, "gated": False, "n_kv_heads": 4,
            "query_key_norm": False}  # fmt: skip
    model = tiny(**kind, activation="gelu", attention_bias=True, attention_output_bias=True, feed_forward_bias=True,
                 tie_embeddings=False)  # fmt: skip
    both = plans(model)
    by_bits = {
        bits: rows(model, plan, lambda name, bits: ("key" in name) / bits) for bits, plan in both.items()
    }
    bits, _ = choose_bits(model, BUDGET, plan_bytes(model, both[8].schemes), by_bits)
    attention = [bits[f"trunk.blocks.0.attention.{name}"] for name in ("query", "key", "value", "output")]
    assert attention == [8, 8, 8, 4]
