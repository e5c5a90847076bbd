"""One layer of a decoder: attention and feed-forward, each behind its norm and inside a residual connection
(pre-norm, Xiong et al. 2020).
"""

from __future__ import annotations

from torch import Tensor, nn

from parakit.model.attention import Attention, Cache
from parakit.model.config import DecoderConfig
from parakit.model.feed_forward import FeedForward
from parakit.model.norms import RMSNorm


class DecoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], attention_mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, attention_mask, cache))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
