"""Local, linear and low-rank attention against their formulas written out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.model import LanguageModel, MaskedLanguageModel
from parakit.model.layers.efficient_attention import (
    CHUNK_LEN,
    LinearAttention,
    LocalAttention,
    LowRankAttention,
)
from tests.model.formulas import arrays, attention, config_of, encoder_of, linear, random_weights, softmax

LENGTHS = [1, 2, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 5]


def tokens(n: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, n, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def projected(x: np.ndarray, layer: Any, config: Any) -> tuple[list[np.ndarray], ...]:
    """Queries, keys and values (T, D), head by head, groups spread out."""
    w, d, per = arrays(layer), config.head_dim, config.n_heads // config.n_kv_heads
    query, key, value = (linear(x, w, name) for name in ("query", "key", "value"))
    return (
        [query[:, h * d : (h + 1) * d] for h in range(config.n_heads)],
        [key[:, h // per * d : (h // per + 1) * d] for h in range(config.n_heads)],
        [value[:, h // per * d : (h // per + 1) * d] for h in range(config.n_heads)],
    )


def linear_attention(x: np.ndarray, layer: Any, config: Any, mask: np.ndarray) -> np.ndarray:
    """Katharopoulos et al. 2020, eq. 4 with phi(x) = elu(x) + 1, pair by pair."""
    heads = []
    for query, key, value in zip(*projected(x, layer, config), strict=True):
        phi_query, phi_key = (np.where(z > 0, z + 1, np.exp(np.minimum(z, 0))) for z in (query, key))
        similarity = np.where(mask, phi_query @ phi_key.T, 0.0)
        heads.append(similarity @ value / similarity.sum(-1, keepdims=True))
    return linear(np.concatenate(heads, -1), arrays(layer), "output")


def low_rank_attention(x: np.ndarray, layer: Any, config: Any, real: np.ndarray) -> np.ndarray:
    """Wang et al. 2020, eq. 7; the first columns of E and F belong to the real tokens."""
    w, heads = arrays(layer), []
    squeeze_key, squeeze_value = (w[name][:, : real.sum()] for name in ("squeeze_key", "squeeze_value"))
    for query, key, value in zip(*projected(x, layer, config), strict=True):
        short_key, short_value = squeeze_key @ key[real], squeeze_value @ value[real]  # (K, D)
        heads.append(softmax(query @ short_key.T / np.sqrt(config.head_dim)) @ short_value)
    return linear(np.concatenate(heads, -1), w, "output")


def near(got: Tensor, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(got.detach().numpy(), wanted, atol=1e-10)


@pytest.mark.parametrize("window", [1, 2, 5, CHUNK_LEN, CHUNK_LEN + 7, 300])
@pytest.mark.parametrize("n_tokens", [1, 3, CHUNK_LEN, 2 * CHUNK_LEN + 1, 3 * CHUNK_LEN + 5])
@pytest.mark.parametrize("causal", [True, False])
def test_local_attention_is_its_formula_block_by_block(window: int, n_tokens: int, causal: bool) -> None:
    config = (config_of if causal else encoder_of)(sliding_window=window, query_key_norm=False)
    layer, x = random_weights(LocalAttention(config, 0, causal)).double(), tokens(n_tokens, rows=2)
    distance = np.arange(n_tokens)[:, None] - np.arange(n_tokens)
    near_by = (distance >= 0) & (distance < window) if causal else abs(distance) <= window // 2
    real = np.arange(n_tokens) >= np.array([[0], [min(2, n_tokens - 1)]])  # the second row is padded
    for mask in (None, torch.tensor(real)[:, None, None]):
        got = layer(x, None, mask, None)
        assert got.isfinite().all()
        for row in range(2):
            seen = real[row] if mask is not None else np.ones(n_tokens, bool)
            wanted = attention(x[row].numpy(), arrays(layer), config, near_by & (seen | (distance == 0)))
            near(got[row][seen], wanted[seen])


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("n_tokens", LENGTHS)
@pytest.mark.parametrize("causal", [True, False])
def test_linear_attention_is_its_formula(n_kv_heads: int, n_tokens: int, causal: bool) -> None:
    config = config_of(n_kv_heads=n_kv_heads, attention="linear", query_key_norm=False)
    layer, x = random_weights(LinearAttention(config, 0, causal)).double(), tokens(n_tokens)
    seen = np.tri(n_tokens, dtype=bool) if causal else np.ones((n_tokens, n_tokens), bool)
    wanted = linear_attention(x[0].numpy(), layer, config, seen)
    near(layer(x, None, None, None)[0], wanted)
    near(layer(x, None, torch.tensor(seen)[None, None], None)[0], wanted)


def test_causal_linear_attention_and_its_gradients_do_not_depend_on_the_chunks() -> None:
    config = config_of(attention="linear")
    layer, n = random_weights(LinearAttention(config, 0, causal=True)).double(), 2 * CHUNK_LEN + 9
    gradients = []
    for mask in (None, torch.ones(n, n, dtype=torch.bool).tril()[None, None]):
        layer.zero_grad()
        layer(tokens(n), None, mask, None).square().sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() <= 1e-9 * other.abs().max()


@pytest.mark.parametrize(
    ("kind", "causal", "changes"),
    [
        (LocalAttention, True, {"sliding_window": 70}),
        (LocalAttention, False, {"sliding_window": 70}),
        (LinearAttention, True, {"attention": "linear"}),
        (LinearAttention, False, {"attention": "linear"}),
        (LowRankAttention, False, {"attention": "low_rank", "max_seq_len": 4096}),
    ],
)
def test_all_pairs_are_never_formed(kind: Any, causal: bool, changes: dict[str, Any]) -> None:
    """Bytes that the backward pass keeps, at twice the length: twice as many, not four times."""
    layer = random_weights(kind((config_of if causal else encoder_of)(**changes), 0, causal))

    def kept_bytes(n_tokens: int) -> int:
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
            layer(torch.randn(1, n_tokens, 16), None, None, None)
        return sum(kept)

    assert kept_bytes(4096) < 2.1 * kept_bytes(2048)


def test_linear_attention_in_half_precision_sums_in_float32() -> None:
    config = config_of(attention="linear", query_key_norm=False)
    layer, x = random_weights(LinearAttention(config, 0, causal=True)), tokens(2000).float()
    wanted = layer(x, None, None, None)
    got = layer.bfloat16()(x.bfloat16(), None, None, None).float()
    assert (got - wanted).abs().mean() < 0.02 * wanted.abs().mean()
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, None, None, None).float()
    assert (mixed - wanted).abs().mean() < 0.02 * wanted.abs().mean()


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("n_tokens", [1, 5, 32])
def test_low_rank_attention_is_its_formula(n_kv_heads: int, n_tokens: int) -> None:
    config = encoder_of(n_kv_heads=n_kv_heads, attention="low_rank", low_rank_len=3)
    layer, x = random_weights(LowRankAttention(config, 0, causal=False)).double(), tokens(n_tokens)
    wanted = low_rank_attention(x[0].numpy(), layer, config, np.ones(n_tokens, bool))
    near(layer(x, None, None, None)[0], wanted)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_never_enters_the_squeezed_keys(side: str) -> None:
    config = encoder_of(attention="low_rank", low_rank_len=3)
    layer, x = random_weights(LowRankAttention(config, 0, causal=False)).double(), tokens(9)
    real = np.arange(9) >= 3 if side == "left" else np.arange(9) < 6
    wanted = low_rank_attention(x[0].numpy(), layer, config, real)[real]
    mask = torch.tensor(real)[None, None, None]
    near(layer(x, None, mask, None)[0, torch.tensor(real)], wanted)


def test_low_rank_attention_refuses_what_it_cannot_keep_apart() -> None:
    model = MaskedLanguageModel(encoder_of(attention="low_rank"))
    packed = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    with pytest.raises(UserError, match="packed"):
        model(torch.zeros(1, 6, dtype=torch.long), attention_mask=packed)
    with pytest.raises(UserError, match=r"33 tokens.*made for 32"):
        MaskedLanguageModel(encoder_of(attention="low_rank", positions="none"))(
            torch.zeros(1, 33, dtype=torch.long)
        )


def test_a_cached_step_of_linear_attention_does_not_form_more_than_its_own_pairs() -> None:
    layer = random_weights(LinearAttention(config_of(attention="linear"), 0, causal=True)).double()
    query, key, value = (torch.randn(2, 4, n, 6, dtype=torch.float64) for n in (1, 9, 9))
    seen = torch.tensor([[True] * 9, [True] * 5 + [False] * 4])[:, None, None]
    ragged = layer.attend(query, key[:, :2], value[:, :2], seen)
    short = layer.attend(query[1:], key[1:, :2, :5], value[1:, :2, :5], None)
    assert (ragged[1] - short[0]).abs().max() < 1e-12


def test_a_mask_of_keys_is_never_spread_over_pairs() -> None:
    mask = torch.ones(2, 7, dtype=torch.bool)
    for model, local in (
        (LanguageModel(config_of(attention="linear")), 0),
        (MaskedLanguageModel(encoder_of(attention="low_rank")), 0),
        (MaskedLanguageModel(encoder_of(sliding_window=3)), 1),
    ):
        assert model.trunk._masks(mask, torch.arange(7), 7)[local].shape == (2, 1, 1, 7)
