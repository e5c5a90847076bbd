"""Whole transformers written out in float64 numpy, row by row and head by head, as the papers' formulas say; and the
tiny shapes that they are compared on. Nothing here is imported from `parakit` but the configs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from parakit.model import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from parakit.model.transformer_config import TransformerConfig

Array = np.ndarray
Weights = dict[str, Array]
SIZES: dict[str, Any] = {
    "vocab_size": 61, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "d_ff": 20,
    "max_seq_len": 32,
}  # fmt: skip
PLAIN: dict[str, Any] = {"head_transform": False, "lm_head_bias": False}

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "squared_relu": lambda x: np.maximum(x, 0) ** 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def config_of(**changes: Any) -> DecoderConfig:
    return DecoderConfig(**SIZES | changes)


def encoder_of(**changes: Any) -> EncoderConfig:
    return EncoderConfig(**SIZES | changes)


def joined_of(**changes: Any) -> EncoderDecoderConfig:
    return EncoderDecoderConfig(
        encoder=encoder_of(**PLAIN | changes), decoder=config_of(**changes), decoder_start_id=1
    )


def random_weights(module: torch.nn.Module, seed: int = 0) -> Any:
    """Every parameter random_weights: a fresh model's zeros and ones would test nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 2 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module.eval()


def arrays(module: torch.nn.Module) -> Weights:
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def under(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def norm(x: Array, w: Weights, c: TransformerConfig, name: str) -> Array:
    """What stands under `name`: nothing, an RMS norm or a LayerNorm."""
    if f"{name}.weight" not in w:
        return x
    if c.norm == "rms":
        return rms_norm(x, w[f"{name}.weight"], c.norm_eps)
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + c.norm_eps)
    return scaled * w[f"{name}.weight"] + w.get(f"{name}.bias", 0.0)


def linear(x: Array, w: Weights, name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def rotated(x: Array, positions: Array, theta: float) -> Array:
    """Each pair of features (i, i + D/2) as a complex number, times e^(i * position * theta^(-2i/D)). x (T, D)."""
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-2.0 * np.arange(half) / x.shape[-1])
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], axis=-1)


def sinusoids(positions: Array, d_model: int) -> Array:
    angle = positions[:, None] / 10_000.0 ** (2 * np.arange(d_model // 2) / d_model)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def bucket(offset: int, n_buckets: int, max_distance: int, causal: bool) -> int:
    """The bucket of one distance key - query, from the text of T5's section 2.1."""
    first = 0
    if not causal:
        n_buckets //= 2
        first = n_buckets if offset > 0 else 0
    distance = max(-offset, 0) if causal else abs(offset)
    exact = n_buckets // 2
    if distance < exact:
        return first + distance
    along = math.log(distance / exact) / math.log(max_distance / exact)
    return first + min(exact + int(along * (n_buckets - exact)), n_buckets - 1)


def attention(
    x: Array,
    w: Weights,
    c: TransformerConfig,
    mask: Array,
    at: Array | None = None,
    theta: float | None = None,
    bias: Array | None = None,
    source: Array | None = None,
) -> Array:
    """Head by head. x (T, d_model), mask (T, S), at (T,); bias (H, T, S) is added to the scores."""
    heads, d = [], c.head_dim
    keys_from = x if source is None else source
    scale = d**-0.5 if c.attention_scale is None else c.attention_scale
    for head in range(c.n_heads):
        group = head // (c.n_heads // c.n_kv_heads)
        query = linear(x, w, "query")[:, head * d : (head + 1) * d]
        key, value = (linear(keys_from, w, n)[:, group * d : (group + 1) * d] for n in ("key", "value"))
        if c.query_key_norm:
            query = rms_norm(query, w["query_norm.weight"], c.norm_eps)
            key = rms_norm(key, w["key_norm.weight"], c.norm_eps)
        if at is not None and theta is not None:
            query, key = rotated(query, at, theta), rotated(key, at, theta)
        scores = query @ key.T * scale
        if c.attention_soft_cap is not None:
            scores = c.attention_soft_cap * np.tanh(scores / c.attention_soft_cap)
        if bias is not None:
            scores = scores + bias[head]
        heads.append(softmax(np.where(mask, scores, -np.inf)) @ value)
    return linear(np.concatenate(heads, -1), w, "output")


def feed_forward(x: Array, w: Weights, c: TransformerConfig) -> Array:
    act = ACTIVATIONS[c.activation]
    inner = act(linear(x, w, "gate")) * linear(x, w, "up") if c.gated else act(linear(x, w, "up"))
    return linear(inner, w, "down")


def mixture(x: Array, w: Weights, c: TransformerConfig) -> Array:
    """Token by token, expert by expert."""
    act, out = ACTIVATIONS[c.activation], np.zeros_like(x)
    for token, vector in enumerate(x):
        shares = softmax(w["router.weight"] @ vector)
        best = np.argsort(-shares)[: c.n_active_experts]
        weights = shares[best] / (shares[best].sum() if c.normalize_expert_weights else 1.0)
        for weight, expert in zip(weights, best, strict=True):
            up = w["up"][expert] @ vector
            inner = act(w["gate"][expert] @ vector) * up if c.gated else act(up)
            out[token] += weight * (w["down"][expert] @ inner)
    return out + feed_forward(x, under(w, "shared."), c) if c.n_shared_experts else out


def allowed(c: TransformerConfig, layer: int, mask: Array) -> Array:
    """`mask` (T, T) within the window of a local layer."""
    if not c.is_local(layer) or c.sliding_window is None:
        return mask
    distance = np.arange(len(mask))[:, None] - np.arange(len(mask))
    near = distance < c.sliding_window if c.family == "decoder" else abs(distance) <= c.sliding_window // 2
    return mask & near


def stack(
    ids: list[int],
    w: Weights,
    c: TransformerConfig,
    mask: Array,
    at: Array | None = None,
    source: Array | None = None,
    source_mask: Array | None = None,
    types: list[int] | None = None,
) -> Array:
    """One row through a whole stack: (T, d_model). mask (T, T), True = may attend."""
    at = np.arange(len(ids)) if at is None else at
    x, bias = w["token_embedding.weight"][ids] * c.embedding_scale, None
    if c.n_token_types:
        x = x + w["type_embedding.weight"][types if types is not None else [0] * len(ids)]
    if c.positions == "learned":
        x = x + w["positions.weight"][at + c.position_offset]
    elif c.positions == "sinusoidal":
        x = x + sinusoids(at + c.position_offset, c.d_model)
    elif c.positions == "relative":
        numbers = [
            [bucket(j - i, c.n_relative_buckets, c.max_relative_distance, c.family == "decoder")
             for j in range(len(ids))] for i in range(len(ids))
        ]  # fmt: skip
        bias = w["positions.bias.weight"][np.array(numbers)].transpose(2, 0, 1)
    x = norm(x, w, c, "embedding_norm")
    for layer in range(c.n_layers):
        b = under(w, f"blocks.{layer}.")
        theta = (c.is_local(layer) and c.local_rope_theta) or c.rope_theta
        theta = theta if c.positions == "rotary" else None
        seen, own = allowed(c, layer, mask), under(b, "attention.")

        def self_attention(
            y: Array, own: Weights = own, seen: Array = seen, t: float | None = theta
        ) -> Array:
            return attention(y, own, c, seen, at, t, bias)

        x = _add(x, b, c, "attention_norm", self_attention)
        if source is not None:
            crossed, whole = under(b, "cross_attention."), np.ones((len(ids), len(source)), bool)
            look = whole if source_mask is None else source_mask
            x = _add(
                x, b, c, "cross_attention_norm",
                lambda y, w=crossed, m=look: attention(y, w, c, m, source=source),
            )  # fmt: skip
        inner = mixture if c.has_experts(layer) else feed_forward
        x = _add(x, b, c, "feed_forward_norm", lambda y, b=b, f=inner: f(y, under(b, "feed_forward."), c))
    return norm(x, w, c, "final_norm")


def _add(x: Array, w: Weights, c: TransformerConfig, name: str, sublayer: Any) -> Array:
    return norm(x + sublayer(x), w, c, name) if c.post_norm else x + sublayer(norm(x, w, c, name))


def head_logits(hidden: Array, w: Weights, c: TransformerConfig) -> Array:
    """From a stack's vectors to logits; `w` are the whole model's weights."""
    if c.head_transform:
        inner = ACTIVATIONS[c.activation](linear(hidden, w, "transform.dense"))
        hidden = norm(inner, w, c, "transform.norm")
    matrix = w["trunk.token_embedding.weight"] if c.tie_embeddings else w["lm_head.weight"]
    logits = hidden * c.logit_scale @ matrix.T + w.get("lm_head.bias", 0.0)
    return c.logit_soft_cap * np.tanh(logits / c.logit_soft_cap) if c.logit_soft_cap else logits


def reference_logits(model: Any, ids: list[int], mask: Array | None = None, at: Array | None = None) -> Array:
    """A `LanguageModel` or `MaskedLanguageModel` for one row: (T, V)."""
    c, w = model.config, arrays(model)
    if mask is None:
        mask = np.tri(len(ids), dtype=bool) if c.family == "decoder" else np.ones((len(ids),) * 2, bool)
    return head_logits(stack(ids, under(w, "trunk."), c, mask, at), w, c)
