"""Attention maps: those of the forward pass, for every architecture, and of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.checkpoints.registry import ARCHITECTURES
from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.attention import attention_maps, flow, rollout
from parakit.inspection.attention_weights import attention_weights, head_values, why_no_weights
from parakit.inspection.capture import attention_calls, capture
from parakit.inspection.inputs import ModelInput, run_batch
from parakit.inspection.sites import attention_modules, layers
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from tests.inspection.architectures import SETTINGS, WITHOUT_MAPS, network_of, random_input, with_noise


def test_the_table_of_networks_has_every_architecture():
    assert set(SETTINGS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", SETTINGS)
def test_rows_sum_to_one_and_weights_times_values_are_the_forward_pass(name):
    network = network_of(name)
    worst, sums, n_maps = [], [], 0

    def compare(module):
        def record(call):
            nonlocal n_maps
            weights = attention_weights(module, call)
            mixed = (weights @ head_values(call)).transpose(1, 2).flatten(2)
            computed = type(module).attend(module, call.query, call.key, call.value, call.attention_mask)
            worst.append(float((mixed - computed).abs().max() / computed.abs().max()))
            sums.append(float((weights.sum(-1) - 1).abs().max()))
            n_maps += 1

        return record

    import contextlib

    with torch.no_grad(), contextlib.ExitStack() as stack:
        for module in attention_modules(network).values():
            if why_no_weights(module) is None:
                stack.enter_context(attention_calls(module, compare(module)))
        run_batch(network, [random_input(network)])
    assert n_maps > 0
    assert max(worst) <= 1e-6
    if name != "gpt_oss":  # the sink has the rest
        assert max(sums) <= 1e-6


def test_what_a_sink_takes_is_missing_in_the_rows():
    maps = attention_maps(Model(network_of("gpt_oss")), random_input(network_of("gpt_oss")))
    sums = np.concatenate([of_heads.sum(-1).ravel() for of_heads in maps.maps.values()])
    assert (sums < 1).all()
    assert sums.min() < 0.99


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("qwen3", "ForCausalLM"),
        ("mistral", "ForCausalLM"),
        pytest.param("gemma2", "ForCausalLM", marks=pytest.mark.long),
        ("bert", "ForMaskedLM"),
        ("t5", "ForConditionalGeneration"),
    ],
)
def test_maps_are_those_of_transformers(name, kind, tmp_path):
    import transformers

    from parakit.checkpoints import load_model
    from tests.checkpoints.conformance import reference_model

    settings = SETTINGS[name]
    prefix = settings[0].removesuffix("Config")
    given = {key: value for key, value in settings[1].items() if key != "separate_head"}
    config = getattr(transformers, settings[0])(**given)
    reference = reference_model(getattr(transformers, f"{prefix}{kind}"), config)
    reference.save_pretrained(tmp_path)
    reference.set_attn_implementation("eager")
    network, _ = load_model(tmp_path)
    given = random_input(network)
    ids = torch.tensor([given.token_ids])
    with torch.no_grad():
        if given.source_ids:
            found = reference(torch.tensor([given.source_ids]), decoder_input_ids=ids, output_attentions=True)
            expected = {
                "encoder.blocks.{}.attention": found.encoder_attentions,
                "decoder.blocks.{}.attention": found.decoder_attentions,
                "decoder.blocks.{}.cross_attention": found.cross_attentions,
            }
        else:
            expected = {"blocks.{}.attention": reference(ids, output_attentions=True).attentions}
    maps = attention_maps(Model(network), given).maps
    wanted = {
        form.format(i): one[0].numpy() for form, every in expected.items() for i, one in enumerate(every)
    }
    assert maps.keys() == wanted.keys()
    for one, values in wanted.items():
        np.testing.assert_allclose(maps[one], values, atol=2e-6, err_msg=one)


def test_chosen_layers_and_heads_and_numbers_that_are_not_there():
    model = Model(network_of("qwen3"))
    given = random_input(model.network)
    every, one = attention_maps(model, given), attention_maps(model, given, layer=1, head=2)
    assert list(one.maps) == ["blocks.1.attention"]
    np.testing.assert_array_equal(one.maps["blocks.1.attention"], every.maps["blocks.1.attention"][2:3])
    with pytest.raises(UserError, match=r"layer 3 is not there: the layers are 0 to 2"):
        attention_maps(model, given, layer=3)
    with pytest.raises(UserError, match=r"head 4 is not there: the heads are 0 to 3"):
        attention_maps(model, given, head=4)


def test_a_window_hides_what_is_further_away():
    model = Model(network_of("mistral"))
    maps = attention_maps(model, random_input(model.network)).maps["blocks.0.attention"]
    distance = np.arange(14)[:, None] - np.arange(14)
    assert (maps[:, (distance < 0) | (distance >= 6)] == 0).all()
    assert (maps[:, (distance >= 0) & (distance < 6)] > 0).all()


@pytest.mark.parametrize("name", WITHOUT_MAPS)
def test_recurrent_layers_are_left_out_and_reported(name):
    model = Model(network_of(name))
    given = random_input(model.network)
    maps = attention_maps(model, given)
    assert list(maps.maps) == ["blocks.1.attention"]
    assert "recurrent" in maps.without_maps["blocks.0.attention"]
    with pytest.raises(UserError, match=r"blocks.0.attention has no attention map: it is recurrent"):
        attention_maps(model, given, layer=0)
    with pytest.raises(UserError, match="rollout and flow follow attention through every layer"):
        rollout(maps)


def small_decoder(**changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "head_dim": 4}
    settings = sizes | {"d_ff": 24, "max_seq_len": 32} | changes
    return with_noise(LanguageModel(DecoderConfig(**settings)))


def test_linear_attention_has_no_map_and_says_so():
    network = small_decoder(attention="linear")
    with pytest.raises(
        UserError, match=r"has no attention map: its attention is linear: it sums keys and values"
    ):
        attention_maps(Model(network), ModelInput((1, 2, 3), (" a", " b", " c")))
    with pytest.raises(UserError, match="linear"), capture(network, ["blocks.0.attention.weights"]):
        pass


def test_norms_are_weights_times_the_length_of_what_a_head_writes():
    network = network_of("qwen3").double()
    given = random_input(network)
    model = Model(network)
    found = attention_maps(model, given, kind="norms").maps
    weights = attention_maps(model, given).maps
    with torch.no_grad(), capture(network, ["*.attention.value"]) as values:
        run_batch(network, [given])
    for layer in layers(network):
        name, attention = f"{layer.name}.attention", layer.block.attention
        matrix = attention.output.weight.detach().unflatten(1, (4, -1))  # (W, H, D)
        value = values[f"{name}.value"][0].repeat_interleave(2, 0)  # (H, S, D)
        lengths = torch.einsum("hsd,whd->hsw", value, matrix).norm(dim=-1).numpy()
        np.testing.assert_allclose(found[name], weights[name] * lengths[:, None], rtol=1e-5, atol=1e-7)


def test_rollout_is_the_product_of_the_mean_maps_with_the_residual_path():
    model = Model(network_of("bert"))
    maps = attention_maps(model, random_input(model.network))
    expected = np.eye(14)
    for of_heads in maps.maps.values():
        expected = (of_heads.mean(0) + np.eye(14)) / 2 @ expected
    found = rollout(maps)
    assert found.shape == (2, 14, 14)
    np.testing.assert_allclose(found[-1], expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_flow_through_one_layer_is_its_capacity_and_is_conserved_through_two():
    model = Model(small_decoder(n_layers=1))
    given = ModelInput((1, 2, 3, 4), (" a", " b", " c", " d"))
    one = attention_maps(model, given)
    capacities = (one.maps["blocks.0.attention"].mean(0) + np.eye(4)) / 2
    np.testing.assert_allclose(flow(one, -1), capacities[-1], atol=1e-6)
    two = attention_maps(Model(small_decoder()), given)
    lower, upper = ((of_heads.mean(0) + np.eye(4)) / 2 for of_heads in two.maps.values())
    # token 0 is reached through every token of the middle: as much as each of its two edges lets pass
    expected = np.minimum(upper[-1], lower[:, 0]).sum()
    assert flow(two, 3)[0] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UserError, match="token 4 is not there"):
        flow(two, 4)


def test_a_long_text_has_no_flow():
    network = small_decoder(max_seq_len=128)
    given = ModelInput(tuple(i % 50 for i in range(65)), (" a",) * 65)
    with pytest.raises(UserError, match="65 tokens, and attention flow is for 64 at most"):
        flow(attention_maps(Model(network), given), 0)
