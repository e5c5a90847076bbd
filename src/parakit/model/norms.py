"""Normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight, computed in
    float32 at least.
    """

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in (torch.bfloat16, torch.float16):
            return functional.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype) * self.weight
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
