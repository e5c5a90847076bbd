"""One decoding step with fewer, larger operations, for small models, whose time goes into launching operations.

Query, key and value become one matrix, gate and up another, each norm's weight is folded into the next matrix, and
residual sums happen inside matrix products: half the operations, the same function up to rounding. The matrices are
copies, so only models up to `MAX_PARAMS` are fused, in full precision, and only while every module is a plain one;
with wrapped or replaced modules (adapters, quantized weights) the model's own forward runs.

Shapes: B rows, H heads, G key-value heads, D head_dim, W width (d_model), F d_ff, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.inference.generation.kv_cache import KVCache
from parakit.model.backbones import Decoder
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from parakit.model.layers.attention import Attention
from parakit.model.layers.blocks import Block
from parakit.model.layers.feed_forward import FeedForward
from parakit.model.layers.norms import Dropout, RMSNorm
from parakit.model.layers.positions import RotaryPositions

MAX_PARAMS = 50_000_000
PLAIN = {
    LanguageModel, Decoder, Block, Attention, FeedForward, RMSNorm, RotaryPositions,
    nn.Linear, nn.Embedding, Dropout, nn.ModuleList, nn.Identity,
}  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    query_key_value: Tensor  # (W, (H + 2 G) D)
    query_key_norm: Tensor  # (H + G, 1, D)
    output: Tensor  # (H D, W)
    gate_up: Tensor  # (W, 2 F)
    down: Tensor  # (F, W)


class FusedStep:
    """`decode_step` for one model, from matrices prepared once. The model's weights must not change meanwhile."""

    def __init__(self, model: LanguageModel) -> None:
        config = model.config
        self.model, self.eps = model, config.norm_eps
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        trunk: Any = model.trunk
        self.positions = trunk.positions
        self.layers = [self._fuse(block) for block in trunk.blocks]
        self.head = (model.lm_head.weight * trunk.final_norm.weight).T

    def _fuse(self, block: Any) -> _Layer:
        attention, feed_forward = block.attention, block.feed_forward
        query_key_value = torch.cat([attention.query.weight, attention.key.weight, attention.value.weight])
        norms: list[Tensor] = [attention.query_norm.weight] * self.n_heads
        norms += [attention.key_norm.weight] * self.n_kv_heads
        gate_up = torch.cat([feed_forward.gate.weight, feed_forward.up.weight])
        return _Layer(
            (query_key_value * block.attention_norm.weight).T,
            torch.stack(norms)[:, None],
            attention.output.weight.T,
            (gate_up * block.feed_forward_norm.weight).T,
            feed_forward.down.weight.T,
        )

    @torch.inference_mode()
    def __call__(self, cache: KVCache, token_ids: Tensor) -> Tensor:
        """Run one new token per row, (B,), through the model; logits (B, V) of the token after it."""
        x = functional.embedding(token_ids, self.model.trunk.token_embedding.weight)  # (B, W)
        attention_mask = cache.attention_mask(1)
        cos, sin = self.positions(cache.position_ids(1))
        half = self.head_dim // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)  # a roll then rotates
        for number, layer in enumerate(self.layers):
            projected = (self._rms_norm(x) @ layer.query_key_value).view(len(x), -1, 1, self.head_dim)
            query_key, value = projected.split([self.n_heads + self.n_kv_heads, self.n_kv_heads], dim=1)
            query_key = self._rms_norm(query_key) * layer.query_key_norm
            query_key = torch.addcmul(query_key * cos, query_key.roll(half, -1), sin).to(x.dtype)
            query, key = query_key.split([self.n_heads, self.n_kv_heads], dim=1)  # (B, H or G, 1, D)
            key, value = cache.update(number, key, value)  # (B, G, S, D)
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, enable_gqa=self.n_heads > self.n_kv_heads
            )
            x = torch.addmm(x, attended.reshape(len(x), -1), layer.output)
            gate, up = (self._rms_norm(x) @ layer.gate_up).chunk(2, dim=-1)  # (B, F)
            x = torch.addmm(x, functional.silu(gate) * up, layer.down)
        return self._rms_norm(x) @ self.head

    def _rms_norm(self, x: Tensor) -> Tensor:
        """RMSNorm over the last axis, without its weight."""
        return x * x.square().mean(-1, keepdim=True).add_(self.eps).rsqrt_()


def can_fuse_steps(model: object) -> TypeGuard[LanguageModel]:
    """Whether `FusedStep` computes the same function as the model, with copies that are small."""
    return (
        type(model) is LanguageModel
        and model.lm_head.weight.dtype in (torch.float32, torch.float64)
        and _is_default_shape(model.config)
        and model.config.n_params()["total"] <= MAX_PARAMS
        and all(type(module) in PLAIN and not _has_hooks(module) for module in model.modules())
    )


def _is_default_shape(config: DecoderConfig) -> bool:
    """Whether all settings but the sizes are the defaults, which `FusedStep` implements."""
    sizes = {"vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "max_seq_len"}
    free = sizes | {"rope_theta", "rope_scaling", "norm_eps", "tie_embeddings"}
    free |= {"dropout", "attention_dropout", "feed_forward_dropout"}
    fields = type(config).model_fields
    return all(getattr(config, name) == field.default for name, field in fields.items() if name not in free)


def _has_hooks(module: nn.Module) -> bool:
    """Whether a hook reads or changes the module's input or output."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
