"""How much each matrix matters, and the bits that follow under a size budget."""

import pytest
import torch

from parakit.common.errors import UserError
from parakit.compression.quantization.config import QuantizeConfig
from parakit.compression.quantization.plan import budget_plans, plan_bytes
from parakit.compression.quantization.sensitivity import (
    choose_schemes,
    measure_sensitivity,
    sensitivity_of,
)
from parakit.model.quantized import QuantScheme, dequantize, quantizable, quantize_tensor
from tests.compression.quantization.test_compression_quantization_methods import tiny, windows

BUDGET = QuantizeConfig(size_budget="45kB")


def plans(model):
    """4 bits in groups of 32, 8 bits by row, 8 bits in groups of 32."""
    every = budget_plans(model, BUDGET)
    return [every[0], every[1], every[-1]]


def test_a_budget_chooses_from_4_bits_and_8_bits_in_ever_smaller_groups():
    model = tiny(d_ff=128)
    every = [plan.schemes["trunk.blocks.0.feed_forward.down"] for plan in budget_plans(model, BUDGET)]
    assert [(one.bits, one.quant_group_size) for one in every] == [
        (4, 32),
        *((8, None), (8, 128), (8, 64), (8, 32)),
    ]
    down = [plan.schemes["trunk.blocks.0.feed_forward.down"] for plan in budget_plans(tiny(d_ff=80), BUDGET)]
    assert set(down) == {QuantScheme(bits=8)}
    assert len(budget_plans(model, BUDGET.replace(quant_group_size=64))) == 2


@pytest.mark.parametrize("kind", [{}, {"tie_embeddings": False, "logit_soft_cap": 9.0, "logit_scale": 0.5}])
def test_the_kl_of_a_matrix_is_that_of_the_model_with_it_alone_rounded(kind):
    model, tokens = tiny(**kind), windows(32)
    every = plans(model)
    found = measure_sensitivity(model, tokens, every, search=True)
    with torch.no_grad():
        p = tiny(**kind).double()(tokens).log_softmax(-1)
        for name in (
            "trunk.token_embedding",
            "trunk.blocks.0.attention.key",
            "trunk.blocks.1.feed_forward.down",
        ):
            for plan, rows in zip(every, found, strict=True):
                one = tiny(**kind).double()
                weight = one.get_submodule(name).weight
                weight.copy_(dequantize(quantize_tensor(weight, plan.schemes[name], search=True)))
                exact = float((p.exp() * (p - one(tokens).log_softmax(-1))).sum(-1).mean())
                assert next(row.kl for row in rows if row.name == name) == pytest.approx(exact, rel=0.3)
    unchanged = dict(tiny(**kind).named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, unchanged[name])
        assert parameter.grad is None


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
