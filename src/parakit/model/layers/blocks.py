"""One layer of a stack: attention and feed-forward, each inside a residual connection with a norm.

Pre-norm puts the norm before the sublayer and keeps the residual path free (Xiong et al. 2020); post-norm puts it
after the sum, as in Vaswani et al. (2017). A decoder with a source has cross-attention between the two. The other kinds
of blocks are classes of their own, so that none of them costs the others a branch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from parakit.model.counts import skips_first_norm
from parakit.model.layers.attention import (
    Attention,
    Cache,
    CrossAttention,
    GatedAttention,
    Rotation,
    SinkAttention,
)
from parakit.model.layers.disentangled import DisentangledAttention
from parakit.model.layers.efficient_attention import (
    LinearAttention,
    LocalAttention,
    LocalSinkAttention,
    LowRankAttention,
)
from parakit.model.layers.experts import make_experts
from parakit.model.layers.feed_forward import FeedForward
from parakit.model.layers.gated_delta import GatedDeltaRule
from parakit.model.layers.norms import Dropout, make_norm
from parakit.model.layers.positions import RelativePositions
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
        self.rotation = 2 if layer in config.no_rope_layers else int(self.local)
        """Which of `Stack._rotations` the attention uses."""
        self.mask = 2 if config.is_recurrent(layer) else int(self.local)
        """Which of `Stack._masks` the attention uses."""
        omitted = config.sublayer_norm == "output" or (layer == 0 and skips_first_norm(config))
        self.attention_norm = nn.Identity() if omitted else make_norm(config)
        self.attention = _attention_kind(config, layer)(config, layer, causal)
        self.cross_attention_norm = make_norm(config) if cross else None
        self.cross_attention = CrossAttention(config, layer) if cross else None
        omitted = config.sublayer_norm == "output" or config.shared_norm
        self.feed_forward_norm = nn.Identity() if omitted else make_norm(config)
        self.feed_forward = make_experts(config) if config.has_experts(layer) else FeedForward(config)
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


class BiasedBlock(Block):
    """A block with relative positions of its own (UMT5); `rotation` holds the bucket of each query and key."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool, cross: bool = False) -> None:
        super().__init__(config, layer, causal, cross)
        self.relative_bias = RelativePositions(config, causal)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        attention_mask: Tensor | None,
        cache: Cache | None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """As `Block.forward`, with a boolean mask that has all pairs, or none."""
        assert rotation is not None
        bias = self.relative_bias.of_buckets(rotation[0])
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask, -torch.inf)
        return super().forward(x, None, bias, cache, source, source_mask)


class ScaledBlock(Block):
    """A pre-norm block that multiplies what its sublayers write (Granite)."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool, cross: bool = False) -> None:
        super().__init__(config, layer, causal, cross)
        self.residual_scale = config.residual_scale

    def _add(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return x + self.dropout(sublayer(norm(x))) * self.residual_scale


class ParallelBlock(Block):
    """Attention and feed-forward of the same vectors, each with its own norm (GPT-NeoX) or with one (StableLM)."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__(config, layer, causal)
        self.shared_norm = config.shared_norm

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        attention_mask: Tensor | None,
        cache: Cache | None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """As `Block.forward`, without a source."""
        normed = self.attention_norm(x)
        other = normed if self.shared_norm else self.feed_forward_norm(x)
        attended = self.dropout(self.attention(normed, rotation, attention_mask, cache))
        return x + attended + self.dropout(self.feed_forward(other))


class OutputNormBlock(Block):
    """A block that norms what a sublayer computes before it is added (OLMo 2), in addition to its input or not (Gemma 2)."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__(config, layer, causal)
        self.attention_output_norm = make_norm(config)
        self.feed_forward_output_norm = make_norm(config)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        attention_mask: Tensor | None,
        cache: Cache | None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """As `Block.forward`, without a source."""
        attended = self.attention(self.attention_norm(x), rotation, attention_mask, cache)
        x = x + self.dropout(self.attention_output_norm(attended))
        changed = self.feed_forward(self.feed_forward_norm(x))
        return x + self.dropout(self.feed_forward_output_norm(changed))


def _attention_kind(config: TransformerConfig, layer: int) -> type[Attention] | type[GatedDeltaRule]:
    """The attention of `layer`."""
    if config.is_recurrent(layer):
        return GatedDeltaRule
    if config.attention_gate:
        return GatedAttention
    if config.positions == "disentangled":
        return DisentangledAttention
    if config.attention_sinks:
        return LocalSinkAttention if config.is_local(layer) else SinkAttention
    return LocalAttention if config.is_local(layer) else ATTENTIONS[config.attention]


def make_block(config: TransformerConfig, layer: int, causal: bool, cross: bool = False) -> Block:
    """The block of `config`; `cross`: with attention to a source."""
    if config.bias_per_layer:
        return BiasedBlock(config, layer, causal, cross)
    if config.parallel_residual:
        return ParallelBlock(config, layer, causal)
    if config.sublayer_norm != "input":
        return OutputNormBlock(config, layer, causal)
    return (Block if config.residual_scale == 1.0 else ScaledBlock)(config, layer, causal, cross)
