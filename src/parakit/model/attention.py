"""Self-attention with grouped queries, rotary positions and normalised queries and keys.

Scaled dot-product attention (Vaswani et al. 2017, eq. 1) through PyTorch's fused kernels; several query
heads share one key-value head (Ainslie et al. 2023); queries and keys pass an RMSNorm per head, which keeps
the logits bounded (Henry et al. 2020; Qwen3).

Shapes: B batch, T new tokens, S attended tokens, H heads, G key-value heads, D head_dim.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.config import DecoderConfig
from parakit.model.norms import RMSNorm
from parakit.model.positions import rotate


class Cache(Protocol):
    """Keys and values of earlier tokens, kept layer by layer."""

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take in (B, G, T, D) of the new tokens; return (B, G, S, D) of all so far."""
        ...


def document_mask(document_ids: Tensor) -> Tensor:
    """Who may attend in packed rows: document_ids (B, T) -> (B, 1, T, T) bool, causal within each document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return torch.tril(same).unsqueeze(1)


class Attention(nn.Module):
    """Causal self-attention; `layer` is the block's number, by which the cache keeps its keys and values."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim, self.dropout = layer, config.head_dim, config.dropout
        self.n_groups = config.n_heads // config.n_kv_heads
        self.query = nn.Linear(config.d_model, config.n_heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.output = nn.Linear(config.n_heads * config.head_dim, config.d_model, bias=False)
        self.query_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.key_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        cache: Cache | None,
    ) -> Tensor:
        """x (B, T, d_model); mask (B or 1, 1, T, S), True = may attend, or None for plain causal attention."""
        n_batch, seq_len, _ = x.shape
        query = self.query_norm(self.query(x).view(n_batch, seq_len, -1, self.head_dim)).transpose(
            1, 2
        )  # (B, H, T, D)
        key = self.key_norm(self.key(x).view(n_batch, seq_len, -1, self.head_dim)).transpose(
            1, 2
        )  # (B, G, T, D)
        value = self.value(x).view(n_batch, seq_len, -1, self.head_dim).transpose(1, 2)
        query, key = rotate(query, *rotation), rotate(key, *rotation)
        if cache is not None:
            key, value = cache.update(self.layer, key, value)  # (B, G, S, D)
        if self.n_groups > 1:
            key, value = key.repeat_interleave(self.n_groups, 1), value.repeat_interleave(self.n_groups, 1)
        mixed = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=attention_mask is None and seq_len > 1,
        )
        return self.output(mixed.transpose(1, 2).reshape(n_batch, seq_len, -1))
