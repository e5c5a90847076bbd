"""Layers without matrices: normalisation, and dropout.

torch's dropout on a CPU draws a random number of 53 bits for every value, which is a seventh of a training step of
T5's shape. Here one word of 64 bits decides about four values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


def make_norm(config: TransformerConfig) -> nn.Module:
    """The norm of `config`, over d_model features: RMSNorm, or LayerNorm (Ba et al. 2016)."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return nn.LayerNorm(config.d_model, config.norm_eps, bias=config.norm_bias)


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
