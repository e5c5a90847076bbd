"""Mixtures of experts against their formula, against transformers' blocks, and as a part of a training step."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parakit.model import (
    LanguageModel,
    MaskedLanguageModel,
    SequenceToSequence,
    count_choices,
    expert_load,
    pop_expert_load,
    router_losses,
)
from parakit.model.layers.experts import (
    MixtureOfExperts,
    Routing,
    grouped_product,
    load_balancing_loss,
    router_z_loss,
)
from parakit.training.compilation import compile_blocks
from tests.model.formulas import arrays, config_of, encoder_of, joined_of, mixture, random_weights
from tests.short_suite import examples

WIDE: dict[str, Any] = {"n_experts": 4, "d_ff": 24}  # rows of whole 16 bytes: PyTorch's own grouped product


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.data())
@examples(60)
def test_a_grouped_product_is_one_product_a_group(
    n_groups: int, quarters_in: int, quarters_out: int, data: st.DataObject
) -> None:
    counts = data.draw(st.lists(st.integers(0, 5), min_size=n_groups, max_size=n_groups))
    fold = data.draw(st.sampled_from([1, 4]))
    n_in, n_out, n_rows = quarters_in * fold, quarters_out * fold, sum(counts)
    x = torch.randn(n_rows, n_in, requires_grad=True)
    weight = torch.randn(n_groups, n_out, n_in, requires_grad=True)
    got = grouped_product(x, weight, torch.tensor(counts).cumsum(0))
    wanted = torch.cat([part @ w.T for part, w in zip(x.split(counts), weight, strict=True)])
    assert (got - wanted).abs().max() < 1e-4 if n_rows else got.shape == (0, n_out)
    if n_rows:
        from_above = torch.randn_like(wanted)
        actual = torch.autograd.grad((got * from_above).sum(), (x, weight))
        reference = torch.autograd.grad((wanted * from_above).sum(), (x, weight))
        assert all((one - other).abs().max() < 1e-4 for one, other in zip(actual, reference, strict=True))


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("n_active", [1, 2, 4])
@pytest.mark.parametrize("changes", [{}, {"n_shared_experts": 2, "normalize_expert_weights": False}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_mixture_is_its_formula(
    activation: str, gated: bool, n_active: int, changes: dict[str, Any], dtype: torch.dtype
) -> None:
    config = config_of(activation=activation, gated=gated, n_active_experts=n_active, **WIDE, **changes)
    layer = random_weights(MixtureOfExperts(config)).to(dtype)
    x = torch.randn(2, 7, 16, dtype=dtype)
    wanted = mixture(x.double().flatten(0, 1).numpy(), arrays(layer), config).reshape(2, 7, 16)
    atol = 1e-10 if dtype == torch.float64 else 2e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(layer(x).detach().double().numpy(), wanted, atol=atol)


def both_blocks(kind: str) -> tuple[Any, MixtureOfExperts]:
    """The same weights in transformers' block and in actual."""
    if kind == "mixtral":
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        reference: Any = MixtralSparseMoeBlock(
            MixtralConfig(hidden_size=16, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2)
        )
    else:
        from transformers import Qwen3MoeConfig
        from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

        reference = Qwen3MoeSparseMoeBlock(
            Qwen3MoeConfig(
                hidden_size=16, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2,
                norm_topk_prob=kind == "qwen3_moe, normalised",
            )
        )  # fmt: skip
    actual = MixtureOfExperts(config_of(**WIDE, normalize_expert_weights=kind != "qwen3_moe"))
    random_weights(actual)
    with torch.no_grad():
        reference.gate.weight.copy_(actual.router.weight)
        reference.experts.gate_up_proj.copy_(torch.cat([actual.gate, actual.up], 1))
        reference.experts.down_proj.copy_(actual.down)
    return reference.eval(), actual


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "qwen3_moe, normalised"])
def test_a_mixture_and_its_gradients_are_those_of_transformers(kind: str) -> None:
    reference, actual = both_blocks(kind)
    x = torch.randn(3, 11, 16)
    wanted, got = reference(x), actual(x)
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1)
    wanted.square().sum().backward()
    got.square().sum().backward()
    joined = torch.cat([actual.gate.grad, actual.up.grad], 1)
    for one, other in (
        (joined, reference.experts.gate_up_proj.grad),
        (actual.down.grad, reference.experts.down_proj.grad),
        (actual.router.weight.grad, reference.gate.weight.grad),
    ):
        assert (one - other).abs().max() <= 1e-5 * float(other.abs().max())


def test_in_half_precision_the_same_experts_are_chosen_as_by_transformers() -> None:
    reference, actual = both_blocks("mixtral")
    x = torch.randn(3, 11, 16).bfloat16()
    wanted, got = reference.bfloat16()(x), actual.bfloat16()(x)
    assert (got - wanted).abs().max() <= 0.02 * wanted.abs().max()
    _, _, chosen = reference.gate(x.flatten(0, 1))
    assert actual.routing is not None
    assert torch.equal(actual.routing.chosen, chosen)


def test_under_autocast_the_router_stays_in_float32() -> None:
    layer, x = random_weights(MixtureOfExperts(config_of(**WIDE))), torch.randn(2, 9, 16)
    plain = layer(x)
    logits = layer.routing.logits
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x)
    assert torch.equal(layer.routing.logits, logits)
    assert 0 < (mixed - plain).abs().max() <= 0.05 * plain.abs().max()


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_router_losses_are_those_of_transformers(padded: bool) -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    model = random_weights(LanguageModel(config_of(**WIDE, n_layers=3)))
    mask = torch.arange(7) < torch.tensor([[7], [4]]) if padded else None
    model(torch.randint(0, 61, (2, 7)), attention_mask=mask)
    logits = [block.feed_forward.routing.logits for block in model.trunk.blocks]
    balance, z = router_losses(model, mask)
    wanted = load_balancing_loss_func(tuple(logits), 4, 2, None if mask is None else mask.long())
    assert float(balance) == pytest.approx(float(wanted), rel=1e-6)
    real = torch.ones(14, dtype=torch.bool) if mask is None else mask.flatten()
    squares = [torch.log(one[real].double().exp().sum(-1)) ** 2 for one in logits]
    assert float(z) == pytest.approx(float(torch.cat(squares).mean()), rel=1e-6)


def test_even_routing_has_the_least_balance_loss_and_collapse_the_most() -> None:
    turns = torch.arange(8)
    even = Routing(torch.zeros(8, 4), torch.stack([turns % 4, (turns + 1) % 4], 1))
    collapsed = Routing(torch.tensor([[99.0, 99.0, 0, 0]]).repeat(8, 1), torch.tensor([[0, 1]]).repeat(8, 1))
    assert float(load_balancing_loss([even])) == pytest.approx(2)  # n_active_experts
    assert float(load_balancing_loss([collapsed])) == pytest.approx(4)  # n_experts
    assert float(router_z_loss([even])) == pytest.approx(float(torch.tensor(4.0).log() ** 2))


def test_the_balance_loss_spreads_a_collapsed_routers_tokens() -> None:
    torch.manual_seed(1)
    layer = MixtureOfExperts(config_of(**WIDE, n_active_experts=1))
    x = torch.randn(1, 400, 16) + 1
    with torch.no_grad():
        layer.router.weight.normal_(std=0.05)
        layer.router.weight[2] += 0.3  # every token's best

    def largest_share() -> float:
        layer(x)
        return float(layer.routing.chosen.flatten().bincount(minlength=4).max()) / 400

    assert largest_share() > 0.9
    optimizer = torch.optim.SGD([layer.router.weight], lr=0.2)
    for _ in range(150):
        layer(x)
        load_balancing_loss([layer.routing]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert largest_share() < 0.45


def test_expert_load_is_the_share_of_each_expert_layer_by_layer() -> None:
    model = random_weights(LanguageModel(config_of(**WIDE, n_layers=3, dense_layers=(1,))))
    mask = torch.arange(9) < torch.tensor([[9], [2]])
    model(torch.randint(0, 61, (2, 9)))
    everything, real = expert_load(model), expert_load(model, mask)
    assert list(everything) == [0, 2]
    for layer, shares in real.items():
        chosen = model.trunk.blocks[layer].feed_forward.routing.chosen
        counted = [int((chosen[mask.flatten()] == expert).sum()) for expert in range(4)]
        assert shares == pytest.approx([n / 22 for n in counted])
        assert sum(everything[layer]) == pytest.approx(1)
    assert everything != real


@torch.no_grad()
def test_both_sides_of_an_encoder_decoder_have_their_own_mask() -> None:
    model = random_weights(SequenceToSequence(joined_of(**WIDE)))
    source_mask, mask = torch.arange(5) < torch.tensor([[5], [3]]), torch.arange(4) < torch.tensor([[2], [4]])
    model(torch.randint(0, 61, (2, 5)), torch.randint(0, 61, (2, 4)), source_mask=source_mask)
    load = expert_load(model, mask, source_mask)
    assert list(load) == [0, 1, 2, 3]
    chosen = model.trunk.encoder.blocks[1].feed_forward.routing.chosen[source_mask.flatten()]
    assert load[1] == pytest.approx((chosen.flatten().bincount(minlength=4) / 16).tolist())
    sides = [
        load_balancing_loss([b.feed_forward.routing for b in side.blocks], m)
        for side, m in ((model.trunk.encoder, source_mask), (model.trunk.decoder, mask))
    ]
    assert float(router_losses(model, mask, source_mask)[0]) == pytest.approx(float(sum(sides)) / 2)


def test_the_load_is_counted_over_passes_without_padding_and_is_reset_when_read() -> None:
    model = random_weights(LanguageModel(config_of(**WIDE, n_layers=2)))
    masks = [torch.arange(9) < torch.tensor([[9], [2]]), torch.arange(9) < torch.tensor([[1], [5]])]
    counted = torch.zeros(2, 4)
    for mask in masks:
        model(torch.randint(0, 61, (2, 9)))
        count_choices(model, mask)
        for layer in range(2):
            chosen = model.trunk.blocks[layer].feed_forward.routing.chosen[mask.flatten()]
            counted[layer] += chosen.flatten().bincount(minlength=4)
    assert counted[0].sum() == 2 * 17
    load = pop_expert_load(copy.deepcopy(model))
    assert load == {}, "a copy counts for itself"
    load = pop_expert_load(model)
    assert [load[0], load[1]] == [pytest.approx((row / row.sum()).tolist()) for row in counted]
    assert pop_expert_load(model) == {}


@torch.no_grad()
def test_a_model_without_experts_has_no_router_losses() -> None:
    model = LanguageModel(config_of())
    model(torch.zeros(1, 3, dtype=torch.long))
    balance, z = router_losses(model)
    assert float(balance) == float(z) == 0
    assert expert_load(model) == {}


@pytest.mark.parametrize("with_losses", [True, False])
def test_the_graph_of_a_step_does_not_outlive_it(with_losses: bool) -> None:
    model = random_weights(LanguageModel(config_of(**WIDE))).train()
    loss = model(torch.randint(0, 61, (2, 7))).square().mean()
    layers = [block.feed_forward for block in model.trunk.blocks]
    assert all(layer.routing.logits.requires_grad for layer in layers)
    if with_losses:
        loss = loss + router_losses(model)[0]
    loss.backward()
    assert not any(layer.routing.logits.requires_grad for layer in layers)


def test_a_model_can_be_copied_between_forward_and_backward() -> None:
    model = LanguageModel(config_of(**WIDE))
    model(torch.zeros(1, 3, dtype=torch.long))
    copied = copy.deepcopy(model)
    assert copied.trunk.blocks[0].feed_forward.routing is None
    assert torch.equal(copied.trunk.blocks[0].feed_forward.up, model.trunk.blocks[0].feed_forward.up)


def test_a_mixture_runs_in_inference_mode_and_then_in_training() -> None:
    model = random_weights(MaskedLanguageModel(encoder_of(**WIDE)))
    ids = torch.randint(0, 61, (2, 7))
    with torch.inference_mode():
        wanted = model(ids)
        assert router_losses(model)[0] > 0
    logits = model(ids)
    torch.testing.assert_close(logits, wanted)
    logits.sum().backward()


@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, about itself
def test_compiled_blocks_with_experts_compute_the_same() -> None:
    """Compiled without a code generator: what is traced, and what is left out of the trace, is the same."""
    model, ids = random_weights(LanguageModel(config_of(**WIDE))), torch.randint(0, 61, (2, 7))
    wanted = model(ids)
    (wanted.square().sum() + router_losses(model)[0]).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    compile_blocks(model, backend="aot_eager")
    got = model(ids)
    (got.square().sum() + router_losses(model)[0]).backward()
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-6
    torch.compiler.reset()
