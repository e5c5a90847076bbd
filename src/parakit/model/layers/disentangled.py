"""Disentangled attention (He et al. 2021, "DeBERTa", eq. 4): the score of two tokens is that of their vectors, plus the
query's with the vector of their distance, plus the key's with it.

Vectors of distances are shared by all layers and pass through each layer's own query and key matrices (DeBERTa-v2). Distances
up to half of the buckets have a vector each, longer ones share them logarithmically.

Shapes: B batch, T tokens, H heads, D head_dim, N vectors of distances, twice the buckets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parakit.model.layers.attention import Attention, Cache, Rotation
from parakit.model.layers.norms import Dropout, make_norm
from parakit.model.transformer_config import TransformerConfig


class DisentangledPositions(nn.Module):
    """A trained vector for each bucket of signed distances, and their norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.n_buckets, self.max_distance = config.n_relative_buckets, config.max_relative_distance
        self.weight = nn.Parameter(torch.empty(2 * config.n_relative_buckets, config.d_model))
        self.norm = make_norm(config)
        self.dropout = Dropout(config.dropout)
        self.reset()

    def reset(self) -> None:
        """Initialize the vectors, as small as the token embedding's."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """index (T,) -> the vectors (N, d_model), and which of them each query has for each key, (T, T)."""
        buckets = self.buckets(index[:, None] - index) + self.n_buckets
        return self.dropout(self.norm(self.weight)), buckets.clamp(0, 2 * self.n_buckets - 1)

    def buckets(self, distance: Tensor) -> Tensor:
        """Query minus key -> signed bucket. In float32, as the published models were trained: rounding up a logarithm
        decides at the edges.
        """
        middle, far = self.n_buckets // 2, distance.abs()
        longest = torch.tensor((self.max_distance - 1) / middle, device=distance.device)
        scaled = torch.log(far.clamp(min=middle - 1) / middle) / torch.log(longest) * (middle - 1)
        log_bucket = torch.ceil(scaled).long() + middle
        return torch.where(far <= middle, distance, log_bucket * distance.sign())


class DisentangledAttention(Attention):
    """Attention whose scores have terms for distances; `rotation` is what `DisentangledPositions` returns."""

    def forward(
        self, x: Tensor, rotation: Rotation | None, attention_mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """As `Attention.forward`, without a cache."""
        assert rotation is not None
        assert cache is None, "disentangled attention is for encoders"
        vectors, buckets = rotation  # (N, d_model), (T, T)
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        of_query, of_key = (
            self._heads(part(vectors)[None]) for part in (self.query, self.key)
        )  # (1, H, N, D)
        index = buckets.expand(*query.shape[:2], -1, -1)
        from_query = (query @ of_key.mT).gather(-1, index)  # (B, H, T, T)
        from_key = (key @ of_query.mT).gather(-1, index.mT).mT
        bias = (from_query + from_key) * (self.head_dim**-0.5 if self.scale is None else self.scale)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask, -torch.inf)
        return self.output(self.attend(query, key, value, bias))
