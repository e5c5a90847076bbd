"""Prompts and prefixes: as if tokens were there, trained or cached, alone, batched or packed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from parakit.common.errors import UserError
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids, stream_ids
from parakit.inference.native_forward import can_run_natively
from parakit.model import LanguageModel
from parakit.model.adapters import (
    Adapter,
    AdapterSet,
    LoraConfig,
    PrefixConfig,
    PromptConfig,
    attach,
    detach,
    make_lora,
    make_prefix,
    make_prompt,
    without_adapter,
)
from parakit.model.layers.masks import document_mask
from tests.training.tiny_runs import tiny_model

IDS = torch.tensor([[4, 9, 7, 22, 5, 1], [3, 3, 8, 30, 2, 6]])
FIRST = [11, 12, 13]
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=6)
PROMPTS = [[1, 5, 7], [1, 4, 9, 3, 2], [4]]
LEARNED = {"positions": "learned", "query_key_norm": False, "norm": "layer", "norm_bias": True}


def lively(**changes: object) -> LanguageModel:
    """In float64, and with nothing at zero."""
    model = tiny_model(**changes).double().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return model


def made(model: LanguageModel, kind: str) -> Adapter:
    if kind == "lora":
        adapter = make_lora(model, LoraConfig(rank=2, targets=("query", "up", "lm_head", "token_embedding")))
        for parameter in adapter.parameters().values():
            nn.init.normal_(parameter, std=0.3)
        return adapter
    make, config = (make_prompt, PromptConfig) if kind == "prompt" else (make_prefix, PrefixConfig)
    return make(model, config(n_prompt_tokens=3), FIRST)  # type: ignore[operator]


def behind_tokens(model: LanguageModel) -> Tensor:
    """The logits where real tokens stand first."""
    whole = torch.cat([torch.tensor([FIRST] * len(IDS)), IDS], dim=1)
    return model(whole)[:, len(FIRST) :]


@pytest.mark.parametrize("changes", [{}, LEARNED, {"n_kv_heads": 2}], ids=["rotary", "learned", "all-heads"])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_initialized_with_tokens_it_equals_these_tokens(kind, changes):
    model = lively(**changes)
    wanted = behind_tokens(model)
    attach(model, made(model, kind))
    torch.testing.assert_close(model(IDS), wanted, rtol=0, atol=1e-12)
    assert model.config.max_seq_len == 13
    detach(model)
    assert model.config.max_seq_len == 16


def test_a_prompts_gradient_is_that_of_vectors_before_the_text():
    model = lively()
    adapter = made(model, "prompt")
    vectors = model.trunk.token_embedding.weight[FIRST].detach().requires_grad_()
    embedded = model.trunk.token_embedding(IDS).detach()
    whole = torch.cat([vectors.expand(len(IDS), -1, -1), embedded], dim=1)
    model.logits(model.trunk.from_vectors(whole)[:, 3:]).square().sum().backward()
    attach(model, adapter)
    model(IDS).square().sum().backward()
    (own,) = adapter.parameters().values()
    torch.testing.assert_close(own.grad, vectors.grad, rtol=1e-9, atol=1e-9)


def test_a_prefixs_gradient_is_the_slope_of_the_loss():
    model = lively()
    adapter = made(model, "prefix")
    attach(model, adapter)
    (own,) = adapter.parameters().values()
    model(IDS).square().sum().backward()
    assert own.grad is not None
    for place in ((0, 0), (1, 7), (2, 23), (0, 13)):
        losses = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                own[place] += step
                losses.append(float(model(IDS).square().sum()))
                own[place] -= step
        assert float(own.grad[place]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
def test_greedy_tokens_are_the_same_cached_or_not_alone_batched_or_streamed(kind):
    model = lively()
    plain = generate_ids(model, PROMPTS, GREEDY)
    attach(model, made(model, kind))
    assert not can_run_natively(model.float())
    model.double()
    batched = generate_ids(model, PROMPTS, GREEDY)
    assert batched == [generate_ids(model, [prompt], GREEDY)[0] for prompt in PROMPTS]
    assert batched == [list(stream_ids(model, prompt, GREEDY)) for prompt in PROMPTS]
    for prompt, completion in zip(PROMPTS, batched, strict=True):
        row = list(prompt)
        for token_id in completion:
            assert token_id == int(model(torch.tensor([row]))[0, -1].argmax())
            row.append(token_id)
    assert batched != plain
    detach(model)
    assert generate_ids(model, PROMPTS, GREEDY) == plain


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_every_packed_document_sees_the_prefix_and_no_other_document(kind):
    model = lively()
    attach(model, made(model, kind))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]])
    packed = model(IDS[:1], position_ids=positions, attention_mask=document_mask(documents))
    alone = torch.cat([model(IDS[:1, :3]), model(IDS[:1, 3:])], dim=1)
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-12)


def test_a_padded_row_is_read_as_it_is_alone():
    model = lively()
    attach(model, made(model, "prompt"))
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    padded = model(IDS, attention_mask=mask)
    torch.testing.assert_close(padded[:1, :4], model(IDS[:1, :4]), rtol=0, atol=1e-12)


def test_what_a_prompt_keeps_between_steps_is_forgotten_when_a_weight_changes():
    model = lively()
    adapter = made(model, "prompt")
    attach(model, adapter)
    with torch.no_grad():
        before = model(IDS)
        assert torch.equal(model(IDS), before)
        next(iter(adapter.parameters().values())).add_(0.1)
        changed = model(IDS)
        assert not torch.equal(changed, before)
        model.trunk.base.blocks[0].attention.key.weight.mul_(1.5)
        assert not torch.equal(model(IDS), changed)


def test_several_adapters_take_turns_on_one_base():
    model = lively()
    plain, adapters = model(IDS), AdapterSet(model)
    for kind in ("lora", "prompt", "prefix"):
        adapters.add(kind, made(model, kind))
    outputs = {}
    for name in adapters.names:
        adapters.use(name)
        outputs[name] = model(IDS)
    adapters.use("lora")
    assert torch.equal(model(IDS), outputs["lora"])
    with without_adapter(model):
        assert torch.equal(model(IDS), plain)
    assert torch.equal(model(IDS), outputs["lora"])
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(
        adapters._adapters["lora"].parameters()
    )
    adapters.remove("lora")
    assert adapters.current is None
    assert torch.equal(model(IDS), plain)
    with pytest.raises(UserError, match="there are: prompt, prefix"):
        adapters.use("lora")
    with pytest.raises(UserError, match="already"):
        adapters.add("prompt", made(model, "prompt"))


@pytest.mark.parametrize(
    ("changes", "n", "message"),
    [
        ({"sliding_window": 4}, 3, "sliding_window"),
        ({"positions": "relative", "attention_scale": 1.0}, 3, "relative"),
        ({}, 15, "leaves no tokens"),
    ],
)
def test_models_without_support_for_prefixes_are_refused(changes, n, message):
    with pytest.raises(UserError, match=message):
        make_prefix(tiny_model(**changes), PrefixConfig(n_prompt_tokens=n))
