"""LoRA and its relatives against derivations in float64, written out here with matrices alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from parakit.common.errors import UserError
from parakit.model.adapters import LoraConfig, adapter_parameters, attach, detach, is_adapted, make_lora
from parakit.model.adapters.lora import DoraLinear, LoraEmbedding, LoraLinear, PissaLinear
from tests.training.tiny_runs import tiny_model

N, INPUTS, OUTPUTS, RANK = 5, 7, 6, 3


def random_weights(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def linear_and_slope(kind: type[LoraLinear], scale: float) -> tuple[LoraLinear, Tensor, Tensor]:
    """A wrapper with random factors, its inputs, and the gradient of the loss at its outputs."""
    torch.manual_seed(1)
    base = nn.Linear(INPUTS, OUTPUTS).double()
    wrapper = kind(base, RANK, scale)
    for parameter in wrapper.adapter_parameters().values():
        nn.init.normal_(parameter, std=0.5)
    return wrapper, random_weights(N, INPUTS).requires_grad_(), random_weights(N, OUTPUTS)


@pytest.mark.parametrize(
    "config", [LoraConfig(rank=4, alpha=6), LoraConfig(rank=4, alpha=6, rank_stabilized=True)]
)
def test_the_scale_is_alpha_by_rank_or_by_its_root(config):
    assert config.scale == (3.0 if config.rank_stabilized else 1.5)


def test_lora_and_its_gradients():
    """y = x W' + b with W' = W + s B A: dB = s G' x A', dA = s B' G' x, dx = G W'."""
    scale = 1.5
    wrapper, x, slope = linear_and_slope(LoraLinear, scale)
    a, b, w = wrapper.lora_a.detach(), wrapper.lora_b.detach(), wrapper.weight.detach()
    whole = w + scale * b @ a
    y = wrapper(x)
    (y * slope).sum().backward()
    torch.testing.assert_close(y, x @ whole.T + wrapper.bias, rtol=0, atol=1e-12)
    of_whole = slope.T @ x.detach()
    torch.testing.assert_close(wrapper.lora_b.grad, scale * of_whole @ a.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(wrapper.lora_a.grad, scale * b.T @ of_whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(x.grad, slope @ whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(wrapper.merged_weight(), whole, rtol=0, atol=1e-12)


def test_dora_and_its_gradients():
    """y = m / c * (x V') + b, V = W + s B A, c the lengths of V's rows, held fixed (Liu et al. 2024, section 4.3)."""
    scale = 0.7
    wrapper, x, slope = linear_and_slope(DoraLinear, scale)
    a, b, w = wrapper.lora_a.detach(), wrapper.lora_b.detach(), wrapper.weight.detach()
    m = wrapper.magnitude.detach()
    v = w + scale * b @ a
    c = v.square().sum(1).sqrt()
    y = wrapper(x)
    (y * slope).sum().backward()
    torch.testing.assert_close(y, (x @ v.T) * (m / c) + wrapper.bias, rtol=0, atol=1e-12)
    of_v = (m / c)[:, None] * (slope.T @ x.detach())
    torch.testing.assert_close(wrapper.lora_b.grad, scale * of_v @ a.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(wrapper.lora_a.grad, scale * b.T @ of_v, rtol=0, atol=1e-12)
    of_m = (slope * (x.detach() @ v.T)).sum(0) / c
    torch.testing.assert_close(wrapper.magnitude.grad, of_m, rtol=0, atol=1e-12)
    torch.testing.assert_close(wrapper.merged_weight(), (m / c)[:, None] * v, rtol=0, atol=1e-12)


def test_an_embedding_and_its_gradients():
    torch.manual_seed(2)
    wrapper = LoraEmbedding(nn.Embedding(9, 4).double(), 2, 1.25)
    for parameter in wrapper.adapter_parameters().values():
        nn.init.normal_(parameter)
    ids, slope = torch.tensor([[1, 8, 1], [0, 3, 8]]), random_weights(2, 3, 4)
    y = wrapper(ids)
    (y * slope).sum().backward()
    table = wrapper.weight.detach() + 1.25 * (wrapper.lora_b @ wrapper.lora_a).T.detach()
    torch.testing.assert_close(y, table[ids], rtol=0, atol=1e-12)
    of_table = torch.zeros(9, 4, dtype=torch.float64).index_add_(0, ids.flatten(), slope.flatten(0, 1))
    torch.testing.assert_close(
        wrapper.lora_b.grad, 1.25 * of_table.T @ wrapper.lora_a.T.detach(), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        wrapper.lora_a.grad, 1.25 * wrapper.lora_b.T.detach() @ of_table.T, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_beginning_from_the_weight_changes_nothing_yet_and_holds_its_largest_parts(init):
    torch.manual_seed(3)
    base = nn.Linear(INPUTS, OUTPUTS).double()
    before = base.weight.clone()
    wrapper = PissaLinear(base, RANK, 0.5)
    wrapper.reset(init)
    x = random_weights(N, INPUTS)
    torch.testing.assert_close(wrapper(x), base(x), rtol=0, atol=1e-12)
    assert torch.equal(base.weight, before)
    product = wrapper.lora_b.detach() @ wrapper.lora_a.detach()
    if init == "pissa":
        left, sizes, right = torch.linalg.svd(before.double(), full_matrices=False)
        best = left[:, :RANK] @ torch.diag(sizes[:RANK]) @ right[:RANK]
        torch.testing.assert_close(0.5 * product, best, rtol=0, atol=1e-6)
    reduce, expand = wrapper.factors()
    assert (expand @ reduce).abs().max() < 1e-6
    assert expand.shape == (OUTPUTS, 2 * RANK)


@pytest.mark.parametrize("tied", [True, False])
def test_only_the_adapter_trains_and_taking_it_off_gives_the_base_back(tied):
    model = tiny_model(tie_embeddings=tied).eval()
    before = {name: p.clone() for name, p in model.named_parameters()}
    adapter = make_lora(model, LoraConfig(rank=2, targets=("query", "down", "token_embedding", "lm_head")))
    attach(model, adapter)
    assert (model.lm_head.weight is model.trunk.token_embedding.weight) is tied
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set(adapter_parameters(model)) == set(adapter.parameters())
    assert len(trained) == 2 * (2 * 2 + 2)
    for parameter in adapter.parameters().values():
        nn.init.normal_(parameter)
    detach(model)
    assert not is_adapted(model)
    assert dict.fromkeys(before, True) == {n: torch.equal(p, before[n]) for n, p in model.named_parameters()}
    assert all(p.requires_grad for p in model.parameters())


def test_the_default_targets_are_the_matrices_of_the_blocks_without_routers():
    model = tiny_model(n_experts=4, n_active_experts=2, n_shared_experts=1)
    places = make_lora(model, LoraConfig(rank=2)).wrappers
    assert {place.rpartition(".")[2] for place in places} == {
        "query",
        "key",
        "value",
        "output",
        "gate",
        "up",
        "down",
    }
    assert all("shared" in place for place in places if "feed_forward" in place)


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({}, {"targets": ("qeury",)}, "did you mean 'query'"),
        ({}, {"rank": 40}, "lower rank to "),
        ({}, {"targets": ("token_embedding",), "dora": True}, "is an embedding"),
        ({"n_experts": 4}, {"targets": ("up",)}, "experts"),
    ],
)
def test_what_lora_cannot_wrap_is_named(changes, config, message):
    with pytest.raises(UserError) as error:
        make_lora(tiny_model(**changes), LoraConfig(**{"rank": 2, **config}))
    assert message in str(error.value)


def test_dora_does_not_begin_with_parts_of_the_weight():
    with pytest.raises(UserError, match="pissa"):
        LoraConfig.parse({"dora": True, "init": "pissa"})
