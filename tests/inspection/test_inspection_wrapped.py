"""Adapters and quantized weights are looked into like plain models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.inference.loaded_model import Model
from parakit.inspection.ablation import NetworkUnit, ablated, effects, estimated_effects, head_sites
from parakit.inspection.attention import attention_maps, rollout
from parakit.inspection.attribution import logit_attribution
from parakit.inspection.capture import activations
from parakit.inspection.inputs import run_batch
from parakit.model.adapters import LoraConfig, PrefixConfig, attach, make_lora, make_prefix
from parakit.model.quantized import QuantScheme, make_plan, quantize_modules
from tests.inspection.architectures import network_of, random_input
from tests.inspection.test_inspection_ablation import pair_of


def wrapped(kind: str):
    """The tiny Qwen3 with this wrapper."""
    network = network_of("qwen3")
    if kind == "lora":
        adapter = make_lora(network, LoraConfig(rank=2, targets=("query", "value", "output", "down")))
        attach(network, adapter)
        with torch.no_grad():
            for parameter in adapter.parameters().values():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    elif kind == "prefix":
        attach(network, make_prefix(network, PrefixConfig(n_prompt_tokens=3), [5, 6, 7]))
    else:
        scheme = QuantScheme(bits=8 if kind == "int8" else 4)
        quantize_modules(network, make_plan(network, scheme, embeddings=scheme))
    return network.eval()


@pytest.mark.parametrize("kind", ["lora", "prefix", "int8", "int4"])
def test_maps_shares_and_ablations_of_a_wrapped_model(kind):
    network = wrapped(kind)
    model, given = Model(network), random_input(network)
    maps = attention_maps(model, given)
    for name, of_heads in maps.maps.items():
        assert of_heads.shape == (4, 14, 17 if kind == "prefix" else 14)
        np.testing.assert_allclose(of_heads.sum(-1), 1, atol=1e-6)
        assert len(maps.keys(name)) == of_heads.shape[2]
    np.testing.assert_allclose(rollout(maps).sum(-1), 1, atol=1e-6)
    assert np.isfinite(next(iter(attention_maps(model, given, kind="norms").maps.values()))).all()
    found = logit_attribution(model, given, 7)
    scale = sum(float(np.abs(share).sum()) for share in found.shares.values())
    assert found.total == pytest.approx(found.logit, abs=1e-5 * scale)
    rows = [[NetworkUnit("blocks.1.attention.heads", 2)], []]
    changed = effects(network, pair_of(network), rows)
    assert abs(changed[0]) > 1e-5 > abs(changed[1])
    estimates = estimated_effects(network, pair_of(network), head_sites(network))
    assert all(np.abs(values).max() > 0 for values in estimates.values())


@pytest.mark.parametrize("kind", ["lora", "int4"])
def test_captured_weights_times_values_are_what_the_output_matrix_reads(kind):
    network = wrapped(kind)
    found = activations(Model(network), random_input(network), ["blocks.1.attention.*"])
    values = found["blocks.1.attention.value"].repeat(2, 0)
    mixed = found["blocks.1.attention.weights"] @ values  # (H, T, D)
    np.testing.assert_allclose(mixed.transpose(1, 0, 2), found["blocks.1.attention.heads"], atol=1e-5)


def test_without_heads_the_adapters_share_of_the_output_is_gone_too():
    network = wrapped("lora")
    given = random_input(network)
    units = [NetworkUnit("blocks.0.attention.heads", head) for head in range(4)]
    with torch.no_grad(), ablated(network, [units]):
        found = activations(Model(network), given, ["blocks.0.attention"])["blocks.0.attention"]
        run_batch(network, [given])
    np.testing.assert_allclose(found, 0, atol=1e-7)
