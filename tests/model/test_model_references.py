"""Layers and logits against formulas written out in float64, and against transformers' Qwen3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from parakit.model import DecoderConfig, LanguageModel
from parakit.model.attention import Attention
from parakit.model.feed_forward import FeedForward
from parakit.model.norms import RMSNorm
from parakit.model.positions import RotaryPositions, rotate


def drawn(module: torch.nn.Module, seed: int = 0) -> Any:
    """Every parameter drawn: a fresh model's zeros and ones would test nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 2 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module.eval()


def config_of(**changes: Any) -> DecoderConfig:
    settings = {
        "vocab_size": 61, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6,
        "d_ff": 20, "max_seq_len": 32,
    }  # fmt: skip
    return DecoderConfig(**settings | changes)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def turned(x: np.ndarray, positions: np.ndarray, theta: float) -> np.ndarray:
    """Each pair of features (i, i + D/2) as a complex number, times e^(i * position * theta^(-2i/D)). x (T, D)."""
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-2.0 * np.arange(half) / x.shape[-1])
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], axis=-1)


def attention(
    x: np.ndarray, w: dict[str, np.ndarray], c: DecoderConfig, mask: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Head by head, row by row. x (T, d_model), mask (T, T), at (T,)."""
    heads = []
    for head in range(c.n_heads):
        group = head // (c.n_heads // c.n_kv_heads)

        def part(name: str, number: int) -> np.ndarray:
            return x @ w[f"{name}.weight"][number * c.head_dim : (number + 1) * c.head_dim].T

        query = turned(rms_norm(part("query", head), w["query_norm.weight"], c.norm_eps), at, c.rope_theta)
        key = turned(rms_norm(part("key", group), w["key_norm.weight"], c.norm_eps), at, c.rope_theta)
        scores = np.where(mask, query @ key.T / math.sqrt(c.head_dim), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ part("value", group))
    return np.concatenate(heads, -1) @ w["output.weight"].T


def feed_forward(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    gate = x @ w["gate.weight"].T
    return (gate / (1 + np.exp(-gate)) * (x @ w["up.weight"].T)) @ w["down.weight"].T


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def reference_logits(model: LanguageModel, ids: list[int], mask: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The whole model for one row, in float64."""
    c, weights = model.config, {k: v.double().numpy() for k, v in model.state_dict().items()}

    def under(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}

    x = weights["decoder.token_embedding.weight"][ids]
    for layer in range(c.n_layers):
        w = under(f"decoder.blocks.{layer}.")
        normed = rms_norm(x, w["attention_norm.weight"], c.norm_eps)
        own = {k.removeprefix("attention."): v for k, v in w.items() if k.startswith("attention.")}
        x = x + attention(normed, own, c, mask, at)
        normed = rms_norm(x, w["feed_forward_norm.weight"], c.norm_eps)
        x = x + feed_forward(normed, {k.removeprefix("feed_forward."): v for k, v in w.items()})
    return rms_norm(x, weights["decoder.final_norm.weight"], c.norm_eps) @ weights["lm_head.weight"].T


def test_rms_norm_is_its_formula() -> None:
    norm = drawn(RMSNorm(12, 1e-5)).double()
    x = torch.randn(3, 5, 12, dtype=torch.float64)
    wanted = rms_norm(x.numpy(), arrays(norm)["weight"], 1e-5)
    np.testing.assert_allclose(norm(x).detach().numpy(), wanted, rtol=1e-12)


def test_rms_norm_of_half_precision_is_computed_in_float32() -> None:
    norm = RMSNorm(64, 1e-6).bfloat16()
    x = (torch.randn(4, 64) * 300).bfloat16()
    wanted = functional.rms_norm(x.float(), (64,), None, 1e-6).bfloat16()
    assert torch.equal(norm(x), wanted)
    assert norm(torch.full((1, 64), 6e4).half()).isfinite().all()  # its square is no float16


def test_rotary_positions_turn_pairs_by_their_angle() -> None:
    table = RotaryPositions(8, 40, 500.0)
    x, at = torch.randn(1, 1, 6, 8, dtype=torch.float64), torch.tensor([[0, 1, 5, 17, 39, 2]])
    cos, sin = table(at)
    got = rotate(x, cos.double(), sin.double())[0, 0]
    np.testing.assert_allclose(got.numpy(), turned(x[0, 0].numpy(), at[0].numpy(), 500.0), atol=1e-6)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    table = RotaryPositions(8, 64, 10_000.0)
    query, key = torch.randn(2, 1, 1, 1, 8)

    def product(i: int, j: int) -> float:
        at_i, at_j = table(torch.tensor([[i]])), table(torch.tensor([[j]]))
        return float((rotate(query, *at_i) * rotate(key, *at_j)).sum())

    assert product(3, 1) == pytest.approx(product(60, 58), abs=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_rotary_tables_keep_positions_apart_in_half_precision() -> None:
    model = LanguageModel(config_of(max_seq_len=600)).to(torch.bfloat16)
    cos, _ = model.decoder.positions(torch.tensor([[300, 301]]))
    assert not torch.equal(cos[..., 0, :], cos[..., 1, :])


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_attention_is_its_formula(n_kv_heads: int) -> None:
    config = config_of(n_kv_heads=n_kv_heads)
    layer = drawn(Attention(config, 0)).double()
    x, at = torch.randn(1, 7, 16, dtype=torch.float64), np.arange(7)
    rotation = RotaryPositions(6, 32, config.rope_theta)(torch.arange(7))
    got = layer(x, tuple(t.double() for t in rotation), None, None)
    wanted = attention(x[0].numpy(), arrays(layer), config, np.tril(np.ones((7, 7), bool)), at)
    np.testing.assert_allclose(got[0].detach().numpy(), wanted, atol=2e-6)


def test_the_feed_forward_layer_is_its_formula() -> None:
    layer = drawn(FeedForward(10, 14)).double()
    x = torch.randn(5, 10, dtype=torch.float64)
    np.testing.assert_allclose(layer(x).detach().numpy(), feed_forward(x.numpy(), arrays(layer)), rtol=1e-10)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("n_kv_heads", [1, 4])
def test_logits_are_the_formulas(tied: bool, n_kv_heads: int) -> None:
    model = drawn(LanguageModel(config_of(tie_embeddings=tied, n_kv_heads=n_kv_heads)))
    ids = torch.randint(0, 61, (9,)).tolist()
    wanted = reference_logits(model, ids, np.tril(np.ones((9, 9), bool)), np.arange(9))
    got = model(torch.tensor([ids]))[0].detach().numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def test_logits_of_a_packed_row_are_the_formulas() -> None:
    model = drawn(LanguageModel(config_of()))
    ids, documents = torch.randint(0, 61, (10,)).tolist(), np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    at = np.array([0, 1, 2, 0, 1, 2, 3, 0, 1, 2])
    mask = np.tril(documents[:, None] == documents[None, :])
    wanted = reference_logits(model, ids, mask, at)
    got = model(
        torch.tensor([ids]),
        position_ids=torch.tensor(at)[None],
        attention_mask=torch.tensor(mask)[None, None],
    )
    np.testing.assert_allclose(got[0].detach().numpy(), wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers_qwen3(tied: bool) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from parakit.checkpoints import qwen3

    config = config_of(tie_embeddings=tied, rope_theta=5000.0)
    model = drawn(LanguageModel(config))
    foreign = {k: v for k, v in qwen3.write_settings(config, "float32").items() if k != "architectures"}
    theirs = Qwen3ForCausalLM(Qwen3Config(**foreign)).eval()
    state = model.state_dict()
    loaded = {tensor.theirs: state[tensor.ours] for tensor in qwen3.named_tensors(config)}
    if tied:
        loaded["lm_head.weight"] = state["lm_head.weight"]
    theirs.load_state_dict(loaded)
    ids = torch.randint(0, 61, (2, 12))
    with torch.no_grad():
        ours, wanted = model(ids), theirs(ids).logits
    assert (ours - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max()))


def test_a_fresh_model_is_blocks_of_identity_and_its_loss_is_that_of_guessing() -> None:
    model = LanguageModel(config_of(tie_embeddings=False))
    ids = torch.randint(0, 61, (2, 9))
    assert torch.equal(model(ids), torch.zeros(2, 9, 61))
    tied = LanguageModel(config_of(vocab_size=61))
    loss = functional.cross_entropy(tied(ids).flatten(0, 1), ids.roll(-1, 1).flatten())
    assert loss.item() == pytest.approx(math.log(61), abs=0.1)


def test_an_embedding_is_a_one_hot_vector_times_a_matrix() -> None:
    table = LanguageModel(config_of()).decoder.token_embedding
    ids = torch.tensor([4, 0, 60])
    assert torch.equal(table(ids), functional.one_hot(ids, 61).float() @ table.weight)


def test_dropout_is_on_in_training_and_off_in_evaluation() -> None:
    model: Any = drawn(LanguageModel(config_of(dropout=0.5)))
    ids = torch.randint(0, 61, (1, 9))

    def twice() -> tuple[Tensor, Tensor]:
        return model(ids), model(ids)

    assert torch.equal(*twice())
    model.train()
    assert not torch.equal(*twice())
