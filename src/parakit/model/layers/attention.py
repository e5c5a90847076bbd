"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1) through PyTorch's fused kernels, and cross-attention.

Several query heads may share one key-value head (grouped, Ainslie et al. 2023; multi-query, Shazeer 2019); queries and
keys may be normalised, which bounds the scores (Henry et al. 2020; Qwen3); scores may be
soft-capped (Gemma 2). Local, linear and low-rank attention, which never compute all scores, are in
`efficient_attention.py`.

Shapes: B batch, T new tokens, S attended tokens, H heads, G key-value heads, D head_dim.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.kernels.attention import attention
from parakit.model.kernels.training import has_hooks, normed_and_rotated
from parakit.model.layers.norms import RMSNorm, dropout, make_query_key_norm
from parakit.model.layers.positions import rotate, rotate_first
from parakit.model.layers.projections import project
from parakit.model.layers.tree_attention import tree_attention
from parakit.model.transformer_config import TransformerConfig

Rotation = tuple[Tensor, ...]


class Cache(Protocol):
    """Keys and values of earlier tokens, by layer; and those of a source, computed once."""

    @property
    def seq_len(self) -> int:
        """Slots in use before this forward pass."""
        ...

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, G, T, D) of the new tokens; return (B, G, S, D) of all so far."""
        ...

    def new_tokens(self, n_new: int) -> Tensor | None:
        """Which of the next `n_new` tokens are real, (B, T) bool; None: all."""
        ...

    def state(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """What a recurrent layer keeps of the tokens so far: (B, W - 1, F) and (B, H, K, V); None before the first."""
        ...

    def set_state(self, layer: int, tail: Tensor, matrix: Tensor, n_new: int) -> None:
        """Store it, after `n_new` more tokens."""
        ...

    def source(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values (B, G, S, D) of the source for cross-attention, after `set_source`."""
        ...

    def set_source(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store a source's keys and values for the next steps."""
        ...


class Attention(nn.Module):
    """Self-attention; `layer` is the block's number, the index of its keys and values in the cache."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__()
        d, width = config.d_model, config.n_heads * config.head_dim
        kv_width = config.n_kv_heads * config.head_dim
        self.layer, self.d_model, self.head_dim, self.causal = layer, d, config.head_dim, causal
        self.dropout = config.dropout if config.attention_dropout is None else config.attention_dropout
        self.scale, self.soft_cap = config.attention_scale, config.attention_soft_cap
        self.n_groups = config.n_heads // config.n_kv_heads
        self.query = nn.Linear(d, width, bias=config.attention_bias)
        self.key = nn.Linear(d, kv_width, bias=config.attention_bias)
        self.value = nn.Linear(d, kv_width, bias=config.attention_bias)
        self.output = nn.Linear(width, d, bias=config.attention_output_bias)
        self.query_norm = make_query_key_norm(config, config.n_heads)
        self.key_norm = make_query_key_norm(config, config.n_kv_heads)
        self.rotate = rotate if config.rotary_dim in (None, config.head_dim) else rotate_first

    def forward(
        self, x: Tensor, rotation: Rotation | None, attention_mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """x (B, T, d_model); mask (B or 1, 1, T, S): bool, True = may attend, or float, added to the scores;
        None: all keys, or the plain causal ones.
        """
        return self.output(self.attend(*self._project(x, rotation, cache), attention_mask))

    def _project(
        self, x: Tensor, rotation: Rotation | None, cache: Cache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D) of the new tokens, keys and values (B, G, S, D) of all."""
        query, key, value = map(self._heads, project(x, self.query, self.key, self.value))
        query = self._place(query, self.query_norm, rotation)  # (B, H, T, D)
        key = self._place(key, self.key_norm, rotation)  # (B, G, T, D)
        if cache is not None:
            key, value = cache.update(self.layer, key, value)  # (B, G, S, D)
        return query, key, value

    def _place(self, x: Tensor, norm: nn.Module, rotation: Rotation | None) -> Tensor:
        """Queries or keys normalised and rotated, in one pass over memory where both are of the plain kind."""
        if rotation is not None and self.rotate is rotate and type(norm) is RMSNorm and not has_hooks(norm):
            placed = normed_and_rotated(x, norm.weight, norm.eps, *rotation)
            if placed is not None:
                return placed
        x = norm(x)
        return x if rotation is None else self.rotate(x, *rotation)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, heads * D) -> (B, heads, T, D)"""
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Average the values by the scores: query (B, H, T, D), keys and values (B, G, S, D) -> (B, T, H * D)."""
        if self._is_grouped_step(query, attention_mask):  # without copies of keys and values for each head
            grouped = query.reshape(len(query), key.shape[1], self.n_groups, self.head_dim)
            mixed = functional.scaled_dot_product_attention(
                grouped, key, value, attn_mask=attention_mask, scale=self.scale
            )
            return mixed.reshape(len(query), 1, -1)
        is_causal = self.causal and attention_mask is None and query.shape[2] > 1
        needs_scores = self._needs_scores(query, attention_mask)
        if not needs_scores:
            trained = attention(query, key, value, attention_mask, is_causal, self.scale)
            if trained is not None:
                return trained.transpose(1, 2).flatten(2)
        if self.n_groups > 1:
            key, value = key.repeat_interleave(self.n_groups, 1), value.repeat_interleave(self.n_groups, 1)
        if needs_scores:
            mixed = self._by_scores(query, key, value, attention_mask, is_causal)
        elif (by_segment := tree_attention(query, key, value, attention_mask, self.scale)) is not None:
            mixed = by_segment
        else:
            mixed = functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=attention_mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=is_causal,
                scale=self.scale,
            )
        return mixed.transpose(1, 2).flatten(2)

    def _is_grouped_step(self, query: Tensor, attention_mask: Tensor | None) -> bool:
        """Whether the heads of a group can be the queries of one key-value head: one new token, no mask by head."""
        is_step = self.n_groups > 1 and query.shape[2] == 1 and not self.training
        shared = attention_mask is None or attention_mask.shape[1] == 1
        return is_step and shared and not self._needs_scores(query, attention_mask)

    def _needs_scores(self, query: Tensor, attention_mask: Tensor | None) -> bool:
        """Whether no fused kernel applies: there is none with a soft cap, and on a CPU none with dropout or with a
        trained bias of the scores, for which torch's fallback is slower than `_by_scores`.
        """
        if self.soft_cap is not None:
            return True
        trains_mask = attention_mask is not None and attention_mask.requires_grad
        drops = self.training and self.dropout > 0
        return query.device.type == "cpu" and (drops or trains_mask) and not torch.compiler.is_compiling()

    def _by_scores(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        """Attention with all scores in memory, at least in float32, with an optional soft cap, cap * tanh(scores / cap)
        (Gemma 2, section 2).
        """
        scale = self.head_dim**-0.5 if self.scale is None else self.scale
        query = query if scale == 1.0 else query * scale
        scores = query @ key.transpose(-2, -1)  # (B, H, T, S)
        scores = scores.float() if scores.itemsize < 4 else scores
        if self.soft_cap is not None:
            scores = self.soft_cap * torch.tanh(scores / self.soft_cap)
        if is_causal:
            attention_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attention_mask is not None:
            allowed = attention_mask.dtype == torch.bool
            scores = scores.masked_fill(~attention_mask, -torch.inf) if allowed else scores + attention_mask
        weights = dropout(self._softmax(scores).to(value.dtype), self.dropout, self.training)
        return weights @ value

    def _softmax(self, scores: Tensor) -> Tensor:
        """Scores (B, H, T, S) to weights."""
        return scores.softmax(-1)


class SinkAttention(Attention):
    """Attention in which each head may attend to nothing: a trained score, the sink, joins the others in the softmax,
    and has no value (Xiao et al. 2023, "Efficient streaming language models with attention sinks"; gpt-oss).
    """

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__(config, layer, causal)
        self.sinks = nn.Parameter(torch.empty(config.n_heads))

    def reset(self) -> None:
        """Initialize the sinks with zeros."""
        nn.init.zeros_(self.sinks)

    def _needs_scores(self, query: Tensor, attention_mask: Tensor | None) -> bool:
        return True

    def _softmax(self, scores: Tensor) -> Tensor:
        sinks = self.sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
        return torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]


class GatedAttention(Attention):
    """Attention whose result is multiplied by a sigmoid of the token's own vector, before the output matrix (Qwen3.5)."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__(config, layer, causal)
        self.gate = nn.Linear(config.d_model, config.n_heads * config.head_dim, bias=config.attention_bias)

    def forward(
        self, x: Tensor, rotation: Rotation | None, attention_mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """As `Attention.forward`."""
        attended = self.attend(*self._project(x, rotation, cache), attention_mask)
        return self.output(attended * self.gate(x).sigmoid())


class CrossAttention(Attention):
    """Attention of a decoder's tokens to a source, whose keys and values are computed once."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__(config, layer, causal=False)

    def forward(  # type: ignore[override]
        self, x: Tensor, source: Tensor | None, source_mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """x (B, T, d_model), source (B, S, d_model), or None when the cache has it; mask (B or 1, 1, 1 or T, S)."""
        query = self.query_norm(self._heads(self.query(x)))
        keys_values = None if cache is None else cache.source(self.layer)
        if keys_values is None:
            assert source is not None, "cross-attention needs a source, or a cache that holds it"
            keys_values = self.key_norm(self._heads(self.key(source))), self._heads(self.value(source))
            if cache is not None:
                cache.set_source(self.layer, *keys_values)
        return self.output(self.attend(query, *keys_values, source_mask))
