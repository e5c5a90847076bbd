"""GPTQ against the paper's equations written out, AWQ's folding against the unchanged function, and what both gain."""

import pytest
import torch

from parakit.common.errors import UserError
from parakit.compression.quantization.awq import fold_scales, folds_of
from parakit.compression.quantization.block_inputs import BlockInputs
from parakit.compression.quantization.config import AWQConfig, GPTQConfig, QuantizeConfig
from parakit.compression.quantization.gptq import corrected_weight, damped, gptq
from parakit.compression.quantization.methods import round_matrices
from parakit.compression.quantization.plan import plan_quantization
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantScheme, dequantize, quantize_modules, quantize_tensor
from tests.short_suite import crossed

SIZES = {
    **{"vocab_size": 96, "d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16},
    **{"max_seq_len": 32, "d_ff": 96},
}
KINDS = {
    "qwen3": {"query_key_norm": True},
    "llama, untied": {"tie_embeddings": False},
    "biases": {"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True},
    "gpt2": {"norm": "layer", "norm_bias": True, "gated": False, "activation": "gelu", "positions": "learned",
             "n_kv_heads": 4, "attention_bias": True, "feed_forward_bias": True},
    "gemma2": {"zero_centered_norm": True, "sublayer_norm": "both", "attention_soft_cap": 5.0, "logit_soft_cap": 9.0},
    "olmo2": {"sublayer_norm": "output"},
    "neox": {"parallel_residual": True, "norm": "layer", "norm_bias": True, "gated": False},
    "stablelm": {"parallel_residual": True, "shared_norm": True},
    "granite": {"residual_scale": 0.3, "logit_scale": 0.5},
    "post-norm": {"post_norm": True, "norm": "layer", "norm_bias": True},
    "no norm weight": {"norm": "layer", "norm_weight": False},
    "windows": {"sliding_window": 4},
    "sinks": {"attention_sinks": True},
    "gated attention": {"attention_gate": True},
    "experts": {"n_experts": 4, "n_active_experts": 2, "n_shared_experts": 1},
    "linear attention": {"attention": "linear"},
}  # fmt: skip


def tiny(**changes):
    torch.manual_seed(0)
    model = LanguageModel(DecoderConfig(**SIZES | changes)).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        elif "norm" in name and "weight" in name:
            torch.nn.init.uniform_(parameter, 0.2, 2.0)
        else:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def windows(n=8, length=24):
    return torch.randint(0, SIZES["vocab_size"], (n, length), generator=torch.Generator().manual_seed(1))


def correlated_inputs(n, width):
    """Inputs (n, width) of some strong directions and some large features, as in a language model."""
    x = torch.randn(n, width // 4) @ torch.randn(width // 4, width) + 0.3 * torch.randn(n, width)
    return x * torch.logspace(-1, 0.5, width)


def brain_surgeon(weight, hessian, scale, zero, order):
    """One row (I,) at a time, one weight after the other (Frantar et al. 2022, equations 2 and 3): round weight q, add
    -(w_q - round(w_q)) / [H_F^-1]_qq * (H_F^-1)_q to those not rounded yet, and remove q from the inverse (eq. 3).
    """
    result = weight.double().clone()
    for row in result:
        inverse = torch.linalg.inv(hessian.double())
        left = list(range(len(row)))
        for q in order:
            rounded = ((row[q] / scale).round() + zero).clamp(0, 15).sub(zero) * scale
            error = (row[q] - rounded) / inverse[q, q]
            others = [i for i in left if i != q]
            row[others] -= error * inverse[q, others]
            row[q] = rounded
            inverse = inverse - torch.outer(inverse[:, q], inverse[q]) / inverse[q, q]
            left = others
    return result


@pytest.mark.parametrize("act_order", [True, False])
def test_gptq_is_the_papers_row_by_row_procedure(act_order):
    x = correlated_inputs(200, 24)
    weight, hessian = torch.randn(5, 24), x.T @ x / len(x)
    scheme = QuantScheme(bits=4, symmetric=True)  # one scale a row, as the written-out procedure has
    config = GPTQConfig(bits=4, act_order=act_order, scale_search=False)
    found = gptq(weight, hessian, scheme, config)
    full = damped(hessian, config.damping)
    order = full.diagonal().argsort(descending=True) if act_order else torch.arange(24)
    for row, scale in enumerate(found.scales[:, 0].double()):
        expected = brain_surgeon(weight[row : row + 1], full, scale, 8, order.tolist())
        torch.testing.assert_close(dequantize(found)[row : row + 1].double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_gptq_errs_less_on_the_layers_outputs_than_rounding(bits):
    x, weight = correlated_inputs(500, 64), torch.randn(40, 64)
    scheme = QuantScheme(bits=bits, quant_group_size=32, symmetric=bits == 8)
    hessian = x.T @ x / len(x)
    rounded = quantize_tensor(weight, scheme, search=True, importance=hessian.diagonal())
    found = gptq(weight, hessian, scheme, GPTQConfig(bits=bits))

    def error(tensor):
        return float(((weight - dequantize(tensor)) @ x.T).square().mean())

    assert error(found) < 0.6 * error(rounded)


def test_inputs_that_never_occur_do_not_stop_gptq():
    x = correlated_inputs(100, 32)
    x[:, 7] = 0
    found = gptq(torch.randn(4, 32), x.T @ x / 100, QuantScheme(bits=8), GPTQConfig(bits=8))
    assert torch.isfinite(dequantize(found)).all()


def test_a_corrected_matrix_makes_up_for_changed_inputs():
    before = correlated_inputs(400, 32).double()
    after = before + 0.3 * before.roll(1, dims=1) + 0.05 * torch.randn(400, 32)
    weight = torch.randn(8, 32).double()
    moved = corrected_weight(weight, before.T @ after / 400, after.T @ after / 400, damping=1e-9)
    expected = torch.linalg.lstsq(after, before @ weight.T).solution.T
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_folded_scales_leave_the_function_as_it_is(kind):
    model, tokens = tiny(**kind), windows(2)
    with torch.no_grad():
        expected = model(tokens)
        n_folds = 0
        for block in model.trunk.blocks:
            for fold in folds_of(block):
                width = block.get_submodule(fold.layers[0]).in_features
                scales = torch.rand(width // fold.repeats) * 2 + 0.3
                if fold.head_dim > 1:
                    scales = scales.view(-1, 1, fold.head_dim).expand(-1, fold.repeats, -1).flatten()
                fold_scales(block, fold, scales)
                n_folds += 1
        assert n_folds >= len(model.trunk.blocks)
        torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_blocks_run_one_by_one_give_what_the_model_gives(kind):
    model, tokens = tiny(**kind), windows(3)
    with torch.no_grad():
        expected = model.trunk(tokens)
        inputs = BlockInputs(model, tokens)
        for number, block in enumerate(model.trunk.blocks):
            inputs.advance(number, block)
        found = model.trunk.final_norm(torch.cat(inputs.batches))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def kl(model, reference, tokens):
    with torch.no_grad():
        p, q = reference(tokens).log_softmax(-1), model(tokens).log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@crossed(
    "config, kind",
    [GPTQConfig(bits=4), GPTQConfig(bits=4, correct_inputs=False), AWQConfig(bits=4)],
    ["qwen3", "gpt2", "experts", "llama, untied"],
)
def test_calibrated_methods_stay_closer_to_the_model_than_rounding(config, kind):
    tokens, others = windows(16), windows(24)[16:]
    figures = []
    for one in (config, QuantizeConfig(bits=4, scale_search=False)):
        model = tiny(**KINDS[kind])
        schemes = plan_quantization(model, one).schemes
        done = []
        tensors = round_matrices(model, schemes, one, tokens, done.append)
        assert sorted(done) == sorted(schemes)
        quantize_modules(model, schemes, tensors)
        figures.append(kl(model, tiny(**KINDS[kind]), others))
    assert figures[0] < figures[1]


def test_a_group_that_does_not_divide_a_layer_is_refused_or_named():
    model = tiny(d_ff=80)
    with pytest.raises(
        UserError, match=r"feed_forward.down \(64 x 80\).*80 inputs are not a multiple of the group size 64"
    ):
        plan_quantization(model, QuantizeConfig(bits=4, quant_group_size=64))
    plan = plan_quantization(model, QuantizeConfig(bits=4))
    assert plan.schemes["trunk.blocks.0.feed_forward.down"] == QuantScheme(bits=8)
    assert (
        "80 inputs are not a multiple of the group size 32" in plan.notes["trunk.blocks.0.feed_forward.down"]
    )
    assert plan.schemes["trunk.blocks.0.feed_forward.up"].bits == 4
