"""Layers without matrices: normalisation, and dropout.

torch's dropout on a CPU draws a random number of 53 bits for every value, which is a seventh of a training step of
T5's shape. Here one word of 64 bits decides about four values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.kernels.training import rms_norm
from parakit.model.transformer_config import TransformerConfig

LEVELS = 2**16  # resolution of dropout rates on a CPU


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight, computed at least
    in float32.
    """

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in (torch.bfloat16, torch.float16):
            return functional.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype) * self.weight
        normed = rms_norm(x, self.weight, self.eps)
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps) if normed is None else normed


class ZeroCenteredRMSNorm(RMSNorm):
    """RMSNorm that multiplies by 1 + weight, in float32, with a weight that starts at zero (Gemma)."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__(d_model, eps)
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in (torch.bfloat16, torch.float16):
            normed = functional.rms_norm(x.float(), self.weight.shape, None, self.eps)
            return (normed * (1 + self.weight.float())).to(x.dtype)
        return functional.rms_norm(x, self.weight.shape, 1 + self.weight, self.eps)


class WidthRMSNorm(RMSNorm):
    """RMSNorm over the features of all heads together (OLMo 2)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, T, D), split into heads."""
        return super().forward(x.transpose(1, 2).flatten(2)).unflatten(2, (x.shape[1], -1)).transpose(1, 2)


class HeadwiseLayerNorm(nn.Module):
    """LayerNorm of each head, with a weight for each and without bias (StableLM 2)."""

    def __init__(self, n_heads: int, head_dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_heads, head_dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, T, D)."""
        return functional.layer_norm(x, x.shape[-1:], None, None, self.eps) * self.weight[:, None]


def make_norm(config: TransformerConfig, width: int | None = None) -> nn.Module:
    """The norm of `config`, over `width` features (None: d_model): RMSNorm, or LayerNorm (Ba et al. 2016)."""
    width = width or config.d_model
    if config.norm == "rms":
        kind = ZeroCenteredRMSNorm if config.zero_centered_norm else RMSNorm
        return kind(width, config.norm_eps)
    return nn.LayerNorm(width, config.norm_eps, config.norm_weight, config.norm_bias)


def make_query_key_norm(config: TransformerConfig, n_heads: int) -> nn.Module:
    """The norm of queries or keys (B, H, T, D) of `n_heads` heads."""
    if not config.query_key_norm:
        return nn.Identity()
    if config.query_key_norm_shape == "width":
        return WidthRMSNorm(n_heads * config.head_dim, config.norm_eps)
    if config.query_key_norm_shape == "heads":
        return HeadwiseLayerNorm(n_heads, config.head_dim, config.norm_eps)
    kind = ZeroCenteredRMSNorm if config.zero_centered_norm else RMSNorm
    return kind(config.head_dim, config.norm_eps)


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) by `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Each value of `x` zero with probability `rate`, the others scaled up, so that the mean stays; `x` itself when
    not training.

    On a CPU the rate is rounded to a multiple of 1 / 65536, and the scale is that of the rate so rounded; the bits come
    from torch's global generator. On other devices, and in compiled code, it is torch's own dropout.
    """
    if not training or rate == 0.0:
        return x
    n_dropped = round(rate * LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < n_dropped < LEVELS:
        return functional.dropout(x, rate)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    levels = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform over -32768 .. 32767
    keep, scale = (levels >= n_dropped - LEVELS // 2).to(x.dtype), LEVELS / (LEVELS - n_dropped)
    return x * keep * scale if x.itemsize < 4 else x * keep.mul_(scale)  # a bfloat16 cannot hold the scale
