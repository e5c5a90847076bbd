"""LoRA on quantized weights (QLoRA): gradients are those of LoRA on the dequantized weights, and merging dequantizes."""

import copy

import pytest
import torch

from parakit.compression.merging.adapters import merge_adapter
from parakit.model.adapters import LoraConfig, attach, detach, make_lora
from parakit.model.quantized import (
    QuantScheme,
    dequantize_modules,
    is_quantized,
    make_plan,
    quantize_modules,
    quantized_modules,
)
from parakit.training.objectives.fused_head_loss import can_fuse_head, fused_cross_entropy
from tests.model.quantized.test_model_quantized_layers import tiny_model

INT4 = QuantScheme(bits=4, quant_group_size=32)


def quantized_model(**changes):
    model = tiny_model(**changes)
    quantize_modules(model, make_plan(model, INT4, embeddings=INT4, head=INT4))
    return model


def adapted_pair(config, **changes):
    """A quantized and a plain model of the same values, with the same adapter."""
    pair = []
    for dequantized in (False, True):
        model = quantized_model(**changes)
        if dequantized:
            dequantize_modules(model)
        torch.manual_seed(5)
        adapter = make_lora(model, config)
        attach(model, adapter)
        for name, parameter in adapter.parameters().items():
            if not name.endswith("_start"):
                torch.nn.init.normal_(parameter, std=0.1) if "lora" in name else None
        pair.append(model)
    return pair


CONFIGS = {
    "lora": LoraConfig(rank=4),
    "dora": LoraConfig(rank=4, dora=True),
    "pissa": LoraConfig(rank=4, init="pissa"),
    "embedding too": LoraConfig(rank=4, targets=("query", "down", "token_embedding", "lm_head")),
    "trained tokens": LoraConfig(rank=4, token_ids=(3, 5)),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_quantized_base_trains_an_adapter_as_its_dequantized_copy_does(config, tied, monkeypatch):
    monkeypatch.setenv("PARAKIT_KERNELS", "off")
    quantized, plain = adapted_pair(config, tie_embeddings=tied)
    assert is_quantized(quantized)
    ids = torch.randint(96, (2, 8), generator=torch.Generator().manual_seed(1))
    gradients = []
    for model in (quantized, plain):
        hidden = model.hidden(ids).flatten(0, 1)
        if can_fuse_head(model, hidden):
            loss = fused_cross_entropy(model, hidden, ids.flatten(), 0.0)
        else:
            loss = torch.nn.functional.cross_entropy(model.logits(hidden), ids.flatten(), reduction="sum")
        loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-4)


def test_the_fused_loss_takes_a_quantized_head_and_trained_rows(monkeypatch):
    monkeypatch.setattr("parakit.training.objectives.fused_head_loss.CHUNK_ELEMENTS", 5 * 96)
    quantized, plain = adapted_pair(CONFIGS["trained tokens"], tie_embeddings=True)
    ids = torch.randint(96, (2, 8))
    hidden = quantized.hidden(ids).flatten(0, 1)
    assert can_fuse_head(quantized, hidden)
    fused = fused_cross_entropy(quantized, hidden, ids.flatten(), 0.0)
    other = torch.nn.functional.cross_entropy(plain(ids).flatten(0, 1), ids.flatten(), reduction="sum")
    torch.testing.assert_close(fused, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "config", [CONFIGS["lora"], CONFIGS["trained tokens"]], ids=["lora", "trained tokens"]
)
@torch.no_grad()
def test_merging_dequantizes_and_keeps_the_function(config):
    model, _ = adapted_pair(config, tie_embeddings=True)
    ids = torch.randint(96, (2, 8))
    before = model(ids)
    merged = merge_adapter(copy.deepcopy(model)).model
    assert not is_quantized(merged)
    torch.testing.assert_close(merged(ids), before, rtol=1e-3, atol=1e-3)


def test_the_base_stays_as_it_was():
    model = quantized_model(tie_embeddings=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attach(model, make_lora(model, CONFIGS["trained tokens"]))
    loss = model(torch.tensor([[1, 2, 3]])).square().sum()
    loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    detach(model)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert len(quantized_modules(model)) == 15
