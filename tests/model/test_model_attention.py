"""Attention of every kind against softmax written out in float64, with a cache and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from parakit.model import LanguageModel, SequenceToSequence
from parakit.model.layers.attention import Attention, CrossAttention
from parakit.model.layers.masks import cross_document_mask, document_mask, expand_mask, narrow_mask
from parakit.model.layers.positions import RotaryPositions
from tests.model.formulas import arrays, attention, config_of, encoder_of, joined_of, random_weights

HEADS = [pytest.param(4, id="multi-head"), pytest.param(2, id="grouped"), pytest.param(1, id="multi-query")]
INDEX = torch.arange(9)


class KeptTokens:
    """The simplest cache there can be: everything is joined to what came before."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.sources: dict[int, tuple[Tensor, Tensor]] = {}
        self.seq_len = 0

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self.kept:
            before = self.kept[layer]
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        self.kept[layer] = key, value
        return key, value

    def source(self, layer: int) -> tuple[Tensor, Tensor] | None:
        return self.sources.get(layer)

    def set_source(self, layer: int, key: Tensor, value: Tensor) -> None:
        self.sources[layer] = key, value


def mixed(layer: Any, mask: Tensor | None, at: Tensor | None = None) -> np.ndarray:
    """One row of 9 tokens through the layer, in float64."""
    rotation = None
    if at is not None:
        rotation = tuple(t.double() for t in RotaryPositions(6, 32, 10_000.0)(at))
    return layer(tokens(), rotation, mask, None)[0].detach().numpy()


def tokens(n: int = 9, seed: int = 1) -> Tensor:
    return torch.randn(1, n, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def near(got: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.parametrize("n_kv_heads", HEADS)
def test_causal_attention_is_its_formula(n_kv_heads: int) -> None:
    config = config_of(n_kv_heads=n_kv_heads)
    layer = random_weights(Attention(config, 0, causal=True)).double()
    wanted = attention(tokens()[0].numpy(), arrays(layer), config, np.tri(9, dtype=bool), np.arange(9), 1e4)
    near(mixed(layer, None, INDEX), wanted)


@pytest.mark.parametrize("n_kv_heads", HEADS)
def test_full_attention_is_its_formula_with_biases_and_padding(n_kv_heads: int) -> None:
    config = encoder_of(n_kv_heads=n_kv_heads, attention_bias=True, attention_output_bias=True)
    layer = random_weights(Attention(config, 0, causal=False)).double()
    everything, some = np.ones((9, 9), bool), np.arange(9) < 6
    near(mixed(layer, None), attention(tokens()[0].numpy(), arrays(layer), config, everything))
    mask = expand_mask(torch.tensor(some)[None], INDEX, 9, causal=False)
    wanted = attention(tokens()[0].numpy(), arrays(layer), config, everything & some[None, :])
    near(mixed(layer, mask)[some], wanted[some])


@pytest.mark.parametrize("n_kv_heads", HEADS)
@pytest.mark.parametrize("window", [1, 2, 4, 9, 30])
def test_windowed_attention_is_its_formula(n_kv_heads: int, window: int) -> None:
    distance = np.arange(9)[:, None] - np.arange(9)
    config = config_of(n_kv_heads=n_kv_heads)
    layer = random_weights(Attention(config, 0, causal=True)).double()
    wanted = attention(
        tokens()[0].numpy(), arrays(layer), config, (distance >= 0) & (distance < window), np.arange(9), 1e4
    )
    near(mixed(layer, narrow_mask(None, INDEX, 9, window, causal=True), INDEX), wanted)
    layer = random_weights(Attention(config, 0, causal=False)).double()
    wanted = attention(tokens()[0].numpy(), arrays(layer), config, abs(distance) <= window // 2)
    near(mixed(layer, narrow_mask(None, INDEX, 9, window, causal=False)), wanted)


@pytest.mark.parametrize("n_kv_heads", HEADS)
def test_cross_attention_is_its_formula(n_kv_heads: int) -> None:
    config = config_of(n_kv_heads=n_kv_heads, attention_bias=True)
    layer, source = random_weights(CrossAttention(config, 0)).double(), tokens(5, seed=2)
    seen = np.array([True, True, False, True, False])
    wanted = attention(
        tokens()[0].numpy(),
        arrays(layer),
        config,
        np.broadcast_to(seen, (9, 5)),
        source=source[0].numpy(),
    )
    mask = torch.tensor(seen)[None, None, None]
    near(layer(tokens(), source, mask, None)[0].detach().numpy(), wanted)


@pytest.mark.parametrize("changes", [{"attention_soft_cap": 0.8}, {"attention_scale": 1.0}], ids=str)
@pytest.mark.parametrize("causal", [True, False])
def test_soft_caps_and_scales_are_their_formulas(changes: dict[str, Any], causal: bool) -> None:
    config = config_of(**changes)
    layer = random_weights(Attention(config, 0, causal)).double()
    seen = np.tri(9, dtype=bool) if causal else np.ones((9, 9), bool)
    wanted = attention(tokens()[0].numpy(), arrays(layer), config, seen, np.arange(9), 1e4)
    near(mixed(layer, None, INDEX), wanted)
    near(mixed(layer, torch.tensor(seen)[None, None], INDEX), wanted)
    plain = random_weights(Attention(config_of(), 0, causal)).double()
    assert np.abs(mixed(plain, None, INDEX) - wanted).max() > 1e-3


def test_a_soft_cap_in_half_precision_is_taken_in_float32() -> None:
    layer = random_weights(Attention(config_of(attention_soft_cap=50.0), 0, causal=True)).bfloat16()
    loud = (tokens() * 60).bfloat16()
    assert layer(loud, None, None, None).isfinite().all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_heads": 1},
        {"sliding_window": 3},
        {"sliding_window": 3, "local_layers": (1,), "local_rope_theta": 50.0},
        {"attention_soft_cap": 1.0, "sliding_window": 4},
        {"positions": "relative"},
        {"positions": "relative", "sliding_window": 3},
        {"positions": "learned", "post_norm": True},
        {"attention": "linear"},
        {"n_experts": 4, "n_shared_experts": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("chunks", [[1] * 11, [5, 1, 1, 1, 1, 1, 1], [4, 3, 4]], ids=str)
@torch.no_grad()
def test_tokens_given_in_pieces_to_a_cache_get_the_logits_of_the_whole(
    changes: dict[str, Any], chunks: list[int]
) -> None:
    model = random_weights(LanguageModel(config_of(**changes))).double()
    ids, cache, pieces = torch.randint(0, 61, (2, 11)), KeptTokens(), []
    for n_new in chunks:
        at = torch.arange(cache.seq_len, cache.seq_len + n_new)
        mask = None
        if n_new > 1 and cache.seq_len:
            mask = (torch.arange(cache.seq_len + n_new) <= at[:, None])[None, None]
        pieces.append(
            model(
                ids[:, cache.seq_len : cache.seq_len + n_new],
                position_ids=at,
                attention_mask=mask,
                cache=cache,
            )
        )
        cache.seq_len += n_new
    assert (torch.cat(pieces, 1) - model(ids)).abs().max() < 1e-10


@torch.no_grad()
def test_a_source_is_led_through_keys_and_values_once() -> None:
    model = random_weights(SequenceToSequence(joined_of(positions="relative"))).double()
    source_ids, ids, cache, pieces = (
        torch.randint(0, 61, (1, 5)),
        torch.randint(0, 61, (1, 4)),
        KeptTokens(),
        [],
    )
    source = model.encode(source_ids)
    for place in range(4):
        hidden = model.hidden(
            ids[:, place : place + 1],
            position_ids=torch.tensor([place]),
            source=source if place == 0 else None,
            cache=cache,
        )
        pieces.append(model.logits(hidden))
        cache.seq_len += 1
    assert (torch.cat(pieces, 1) - model(source_ids, ids)).abs().max() < 1e-10


def test_a_padded_row_never_softmaxes_over_nothing() -> None:
    """The outputs of padding mean nothing, but 0 / 0 would reach real rows through gradients."""
    nothing = torch.zeros(2, 9, dtype=torch.bool)
    nothing[1, 4:] = True
    capped = {"attention_soft_cap": 1.0}  # no kernel that saves an empty softmax
    for changes in (
        {},
        capped,
        {"attention": "linear"},
        {"sliding_window": 2},
        {"sliding_window": 2} | capped,
    ):
        model = LanguageModel(config_of(**changes))
        logits = model(torch.randint(0, 61, (2, 9)), attention_mask=nothing)
        assert logits.isfinite().all()
        logits.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_masks_of_packed_documents_keep_them_apart() -> None:
    documents = torch.tensor([[0, 0, 1, 1, 1]])
    same = (documents[:, :, None] == documents[:, None, :])[:, None]
    assert torch.equal(document_mask(documents), same.tril())
    assert torch.equal(document_mask(documents, causal=False), same)
    sources = torch.tensor([[0, 1, 1]])
    assert cross_document_mask(documents, sources)[0, 0].int().tolist() == [[1, 0, 0]] * 2 + [[0, 1, 1]] * 3
