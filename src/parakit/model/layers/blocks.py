"""One layer of a stack: attention and feed-forward, each inside a residual connection with a norm.

Pre-norm puts the norm before the sublayer and keeps the residual path free (Xiong et al. 2020); post-norm puts it
after the sum, as in Vaswani et al. (2017). A decoder with a source has cross-attention between the two.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from parakit.model.counts import skips_first_norm
from parakit.model.layers.attention import Attention, Cache, CrossAttention, Rotation
from parakit.model.layers.efficient_attention import LinearAttention, LocalAttention, LowRankAttention
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.layers.feed_forward import FeedForward
from parakit.model.layers.norms import Dropout, make_norm
from parakit.model.transformer_config import TransformerConfig

ATTENTIONS: dict[str, type[Attention]] = {
    "softmax": Attention,
    "linear": LinearAttention,
    "low_rank": LowRankAttention,
}


class Block(nn.Module):
    """Self-attention, cross-attention where `cross`, feed-forward; each added to its input."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.post_norm, self.local = config.post_norm, config.is_local(layer)
        first = layer == 0 and skips_first_norm(config)
        self.attention_norm = nn.Identity() if first else make_norm(config)
        kind = LocalAttention if self.local else ATTENTIONS[config.attention]
        self.attention = kind(config, layer, causal)
        self.cross_attention_norm = make_norm(config) if cross else None
        self.cross_attention = CrossAttention(config, layer) if cross else None
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = MixtureOfExperts(config) if config.has_experts(layer) else FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        attention_mask: Tensor | None,
        cache: Cache | None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, d_model); for the rest see `Attention.forward` and `CrossAttention.forward`."""
        x = self._add(
            x, self.attention_norm, lambda normed: self.attention(normed, rotation, attention_mask, cache)
        )
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            cross = self.cross_attention
            x = self._add(
                x, self.cross_attention_norm, lambda normed: cross(normed, source, source_mask, cache)
            )
        return self._add(x, self.feed_forward_norm, self.feed_forward)

    def _add(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.post_norm:
            return norm(x + self.dropout(sublayer(x)))
        return x + self.dropout(sublayer(norm(x)))
