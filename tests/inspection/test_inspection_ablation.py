"""Ablation and patching: what a network computes without its parts, or with those of another text."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.ablation import (
    NetworkUnit,
    ablated,
    effects,
    estimated_effects,
    head_effects,
    head_sites,
    mean_activations,
    neuron_sites,
    patched,
    residual_patching,
)
from parakit.inspection.capture import activations, capture, edit
from parakit.inspection.inputs import ModelInput, run_batch
from parakit.inspection.neurons import active_neurons, expert_of, neuron_effects
from parakit.inspection.pairs import ScoredInput, ScoredPair, pair_values
from parakit.inspection.sites import layers, match_names, sites
from parakit.model.layers.gated_delta import GatedDeltaRule
from tests.inspection.architectures import SETTINGS, network_of, random_input

FEW = ("qwen3", "qwen3_moe", "gpt_neox", "olmo2", "bert", "t5")


def pair_of(network, seed: int = 5) -> ScoredPair:
    """Two texts of random ids that differ in their last token (of an encoder: in one place)."""
    given = random_input(network, seed=seed)
    if network.config.family == "encoder":
        return ScoredPair(ScoredInput(given, (4,), (7,)), ScoredInput(given, (4,), (9,)))
    last = len(given.token_ids) - 1
    return ScoredPair(ScoredInput(given, (last,), (7,)), ScoredInput(given, (last,), (9,)))


class Removed(torch.nn.Module):
    """In the place of an attention: what it adds to the residual stream without any head."""

    def __init__(self, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, x, *context):
        return torch.zeros_like(x) if self.bias is None else self.bias.expand_as(x)


@pytest.mark.parametrize("name", SETTINGS)
def test_without_all_heads_of_a_layer_its_attention_is_gone(name):
    network = network_of(name)
    given = random_input(network)
    with torch.no_grad():
        for layer in layers(network):
            for kind, attention in layer.attentions.items():
                units = [NetworkUnit(f"{layer.name}.{kind}.heads", head) for head in range(layer.n_heads)]
                with ablated(network, [units]):
                    without = run_batch(network, [given])
                setattr(layer.block, kind, Removed(attention.output.bias))
                expected = run_batch(network, [given])
                setattr(layer.block, kind, attention)
                torch.testing.assert_close(without, expected, atol=1e-6, rtol=1e-6)
                assert (without - run_batch(network, [given])).abs().max() > 1e-3


@pytest.mark.parametrize("name", SETTINGS)
def test_patching_everything_of_another_text_gives_its_answer(name):
    network = network_of(name)
    given, other = random_input(network, seed=1), random_input(network, seed=2)
    every = [f"{layer.name}.{part}" for layer in layers(network) for part in ("input", "output")]
    with torch.no_grad():
        expected = run_batch(network, [other])
        with patched(network, other, every):
            torch.testing.assert_close(run_batch(network, [given]), expected, atol=1e-6, rtol=1e-6)
        assert (run_batch(network, [given]) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", FEW)
def test_heads_and_neurons_and_embedding_of_another_text_give_its_answer(name):
    """All that is computed between embedding and logits, from the other text."""
    network = network_of(name)
    given, other = random_input(network, seed=1), random_input(network, seed=2)
    embeddings = [one for one in sites(network) if one.endswith("embedding")]
    parts = [f"{one.name}.{kind}" for one in layers(network) for kind in (*one.attentions, "feed_forward")]
    with torch.no_grad(), patched(network, other, [*embeddings, *parts]):
        patched_logits = run_batch(network, [given])
    with torch.no_grad():
        torch.testing.assert_close(patched_logits, run_batch(network, [other]), atol=1e-6, rtol=1e-6)


def test_texts_of_two_lengths_are_not_patched():
    network = network_of("qwen3")
    other, refused = (
        random_input(network, 9),
        pytest.raises(UserError, match="same number of tokens: 14 and 9"),
    )
    with patched(network, other, ["blocks.0.output"]), refused:
        run_batch(network, [random_input(network)])


@pytest.mark.parametrize("name", FEW)
def test_each_row_has_its_own_ablation(name):
    network = network_of(name).double()
    pair = pair_of(network)
    names = head_sites(network)
    rows = [[NetworkUnit(names[0], 0)], [NetworkUnit(names[1], 1), NetworkUnit(names[0], 1)], []]
    together = effects(network, pair, rows)
    alone = [effects(network, pair, [row])[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-9)
    assert together[2] == pytest.approx(0, abs=1e-12)
    assert abs(together[0]) > 1e-6


def test_zero_and_mean_ablation_of_a_head_are_those_by_hand():
    network = network_of("qwen3").double()
    pair = pair_of(network)
    head, site = 2, "blocks.1.attention.heads"
    means = mean_activations(network, [pair.good.given], [site])
    assert means[site].shape == (4, 8)
    for method, value in (("zero", torch.zeros(8, dtype=torch.float64)), ("mean", means[site][head])):

        def replace(x, value=value):
            x = x.clone()
            x[:, :, head] = value
            return x

        with torch.no_grad():
            plain = pair_values(network, pair)[0]
            with edit(network, {site: replace}):
                expected = float(pair_values(network, pair)[0] - plain)
        found = head_effects(Model(network), pair, method=method)
        assert found[site][head] == pytest.approx(expected, abs=1e-9)
        assert set(found) == set(head_sites(network))


def test_neurons_are_found_by_their_gradient_and_measured_exactly():
    network = network_of("qwen3").double()
    pair = pair_of(network)
    found = neuron_effects(Model(network), pair, n=6)
    assert len(found) == 6
    assert [abs(one.effect) for one in found] == sorted((abs(one.effect) for one in found), reverse=True)
    every = [NetworkUnit(name, i) for name in neuron_sites(network) for i in range(48)]
    measured = effects(network, pair, [[unit] for unit in every])
    exact = dict(zip(every, measured, strict=True))
    for one in found:
        assert one.effect == pytest.approx(exact[one.unit], abs=1e-9)
    strongest = max(every, key=lambda unit: abs(exact[unit]))
    assert strongest in [one.unit for one in found]


def test_the_estimate_is_the_slope_of_the_pairs_value():
    network = network_of("bert").double()
    pair = pair_of(network)
    name = neuron_sites(network)[0]
    estimate = estimated_effects(network, pair, [name])[name]
    step = 1e-5
    for neuron in (0, 3, 11):

        def shrink(x, neuron=neuron):
            x = x.clone()
            x[..., neuron] *= 1 - step
            return x

        with torch.no_grad():
            plain = pair_values(network, pair)[0]
            with edit(network, {name: shrink}):
                slope = float(pair_values(network, pair)[0] - plain) / step
        assert estimate[neuron] == pytest.approx(slope, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_neurons_of_routed_experts_are_those_of_each_expert_computed_by_itself(name):
    """Reference: every token through the matrices of its experts, one at a time; and without a neuron's column the same
    answer as where it is ablated.
    """
    network = network_of(name).double()
    given, site = random_input(network), "blocks.0.feed_forward.experts.neurons"
    experts = network.trunk.blocks[0].feed_forward
    n, width = experts.up.shape[:2]
    with capture(network, [site, "blocks.0.feed_forward.router"]) as found, read_input(experts) as read:
        run_batch(network, [given])
    values, (x,) = found[site].reshape(-1, n, width), read
    chosen = found["blocks.0.feed_forward.router"].reshape(-1, n).topk(experts.n_active).indices
    for token in range(len(x)):
        for expert in range(n):
            expected = inner_of(experts, x[token], expert) if expert in chosen[token] else 0 * values[0, 0]
            torch.testing.assert_close(values[token, expert], expected)
    expert, neuron = int(chosen[-1, 0]), 3
    unit = NetworkUnit(site, expert * width + neuron)
    assert expert_of(network, unit) == (expert, neuron)
    pair = pair_of(network)
    (measured,) = effects(network, pair, [[unit]])
    with torch.no_grad():
        plain = pair_values(network, pair)[0]
        experts.down[expert, :, neuron] = 0
        assert measured == pytest.approx(float(pair_values(network, pair)[0] - plain), abs=1e-9)


@contextlib.contextmanager
def read_input(module):
    """The input of a module in the last forward pass, (N, D)."""
    found = []
    handle = module.register_forward_pre_hook(lambda _, args: found.append(args[0].flatten(0, 1)))
    yield found
    handle.remove()


def inner_of(experts, x, expert):
    """The neurons of one expert for one token's vector (D,)."""
    up, gate = experts.up[expert] @ x, experts.gate[expert] @ x
    if hasattr(experts, "up_bias"):
        up, gate = up + experts.up_bias[expert], gate + experts.gate_bias[expert]
        return experts._gated(gate, up)
    return experts.activation(gate) * up


def test_neurons_of_experts_are_found_by_their_gradient_and_shared_ones_too():
    network = network_of("mixtral").double()
    found = neuron_effects(Model(network), pair_of(network), n=4)
    assert {one.unit.site.split(".", 2)[2] for one in found} == {"feed_forward.experts.neurons"}
    assert any(one.effect for one in found)
    network = network_of("qwen3_5_moe_text")
    assert [name for name in neuron_sites(network) if "shared" in name]
    found = active_neurons(Model(network), random_input(network), n=3)
    assert len(found) == 3


def test_an_active_neuron_is_at_the_token_of_its_greatest_activation():
    network = network_of("llama")
    given = random_input(network)
    values = activations(Model(network), given, ["blocks.1.feed_forward.neurons"])[
        "blocks.1.feed_forward.neurons"
    ]
    for one in active_neurons(Model(network), given, layer=1, n=5):
        column = values[:, one.unit.index]
        assert one.position == column.argmax()
        assert one.activation == pytest.approx(column.max())
        assert one.mean == pytest.approx(column.mean(), abs=1e-6)


@pytest.mark.parametrize("name", ["qwen3", "bert"])
def test_residual_patching_at_the_last_layer_and_the_deciding_token_gives_the_other_value(name):
    network = network_of(name).double()
    pair, other = pair_of(network, 5), pair_of(network, 6)
    found = residual_patching(Model(network), pair, other)
    assert found.shape == (len(layers(network)), pair.deciding + 1)
    with torch.no_grad():
        plain, wanted = (float(pair_values(network, one)[0]) for one in (pair, other))
    assert found[-1, -1] == pytest.approx(wanted - plain, abs=1e-9)
    np.testing.assert_allclose(found[-1, :-1], 0, atol=1e-9)  # the last layer is read at one token


def test_a_unit_and_a_name_that_are_not_there():
    network = network_of("qwen3")
    missing = [[NetworkUnit("blocks.0.attention.heads", 4)]]
    with ablated(network, missing), pytest.raises(UserError, match=r"no unit 4: the units are 0 to 3"):
        run_batch(network, [random_input(network)])
    with pytest.raises(UserError, match=r"no 'blocks.9.output'; its last layer is 'blocks.2'"):
        match_names(network, ["blocks.9.output"])
    with pytest.raises(UserError, match=r"did you mean 'blocks.0.feed_forward'"):
        match_names(network, ["blocks.0.feed_foward"])


@pytest.mark.parametrize("name", SETTINGS)
def test_capturing_changes_nothing_and_leaves_nothing_behind(name):
    network = network_of(name)
    given = random_input(network)
    with torch.no_grad():
        expected = run_batch(network, [given])
        patterns = (
            ["*"]
            if not any(isinstance(one.block.attention, GatedDeltaRule) for one in layers(network))
            else ["*.output"]
        )
        with capture(network, patterns) as found:
            torch.testing.assert_close(run_batch(network, [given]), expected, rtol=0, atol=0)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert not any("attend" in vars(m) for m in network.modules())
    first = layers(network)[0].name
    n_tokens = found[f"{first}.output"].shape[1]
    assert found[f"{first}.output"].shape == (
        1,
        n_tokens,
        network.trunk.token_embedding.weight.shape[1],
    ) or name in (
        "electra",
        "opt",
    )


def test_captured_parts_add_up_to_the_residual_stream():
    network = network_of("llama").double()
    given = random_input(network)
    found = activations(Model(network), given, ["*"])
    for layer in layers(network):
        total = (
            found[f"{layer.name}.input"]
            + found[f"{layer.name}.attention"]
            + found[f"{layer.name}.feed_forward"]
        )
        np.testing.assert_allclose(total, found[f"{layer.name}.output"], atol=1e-12)
    assert found["logits"].shape == (14, 97)
    assert isinstance(given, ModelInput)
