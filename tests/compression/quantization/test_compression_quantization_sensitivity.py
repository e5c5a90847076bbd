"""How much each matrix matters, and the bits that follow under a size budget."""

import pytest
import torch

from parakit.common.errors import UserError
from parakit.compression.quantization.config import QuantizeConfig
from parakit.compression.quantization.plan import in_small_groups, plan_bytes, plan_quantization
from parakit.compression.quantization.sensitivity import (
    by_rounding_error,
    choose_schemes,
    measure_sensitivity,
    sensitivity_of,
)
from parakit.model.quantized import dequantize, quantizable, quantize_tensor
from tests.compression.quantization.test_compression_quantization_methods import tiny, windows

BUDGET = QuantizeConfig(size_budget="45kB")


def plans(model):
    names = plan_quantization(model, BUDGET).schemes
    of_bits = [plan_quantization(model, BUDGET, dict.fromkeys(names, bits)) for bits in (4, 8)]
    return [*of_bits, in_small_groups(model, of_bits[-1])]


def test_the_kl_of_a_matrix_is_that_of_the_model_with_it_alone_rounded():
    model, tokens = tiny(), windows(2)
    schemes = plans(model)[0].schemes
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
        sensitivity_of(name, scheme, shapes[name], kl(name, scheme)) for name, scheme in plan.schemes.items()
    ]


def test_better_schemes_go_to_what_matters_and_the_budget_is_kept():
    model = tiny()
    every = plans(model)
    important = "trunk.blocks.1.attention.value"

    def kl(name, scheme):
        return (1 + 9 * (name == important)) / scheme.bits**2 / (2 if scheme.groups(64) > 1 else 1)

    sensitivities = [rows(model, plan, kl) for plan in every]
    smallest, of_8_bits, largest = (plan_bytes(model, plan.schemes) for plan in every)
    for budget in (smallest, smallest + 3000, (smallest + of_8_bits) // 2, of_8_bits, largest, 10 * largest):
        plan, report = choose_schemes(model, budget, every, sensitivities)
        assert plan_bytes(model, plan.schemes) <= budget
        assert (plan.schemes[important].bits == 8) == (budget > smallest)
        assert [(one.name, one.bits, one.quant_group_size) for one in report if one.chosen] == [
            (name, scheme.bits, scheme.quant_group_size) for name, scheme in plan.schemes.items()
        ]
    assert plan.schemes == every[-1].schemes
    with pytest.raises(
        UserError, match=r"budget of 0.0 MB, and with 4 bits everywhere the weights need 0\.0 MB"
    ):
        choose_schemes(model, smallest - 1, every, sensitivities)


def test_the_kl_of_a_finer_scheme_follows_the_rounding_error():
    model, tokens = tiny(), windows(2)
    every = plans(model)
    low = measure_sensitivity(model, tokens, every[0].schemes, search=False)
    measured = {
        one.name: one.kl for one in measure_sensitivity(model, tokens, every[1].schemes, search=False)
    }
    for one in by_rounding_error(model, low, every[0], every[1]):
        assert one.bits == 8
        assert one.kl == pytest.approx(measured[one.name], rel=0.8)


def test_matrices_that_a_folder_stores_as_one_get_the_same_scheme():
    kind = {"parallel_residual": True, "norm": "layer", "norm_bias": True, "gated": False, "n_kv_heads": 4,
            "query_key_norm": False}  # fmt: skip
    model = tiny(**kind, activation="gelu", attention_bias=True, attention_output_bias=True, feed_forward_bias=True,
                 tie_embeddings=False)  # fmt: skip
    every = plans(model)[:2]
    sensitivities = [rows(model, plan, lambda name, scheme: ("key" in name) / scheme.bits) for plan in every]
    plan, _ = choose_schemes(model, plan_bytes(model, every[1].schemes), every, sensitivities)
    attention = [
        plan.schemes[f"trunk.blocks.0.attention.{name}"].bits for name in ("query", "key", "value", "output")
    ]
    assert attention == [8, 8, 8, 4]
