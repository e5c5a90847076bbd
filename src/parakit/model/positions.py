"""Positions: rotary embeddings.

Su et al. 2021, "RoFormer", eq. 34, in the layout of GPT-NeoX and Llama: feature i turns together with
feature i + head_dim / 2. Angles are computed in float32 whatever the model's dtype: in bfloat16 positions
beyond 256 would fall together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RotaryPositions(nn.Module):
    """Tables of cos and sin for every position up to `max_seq_len`; not saved with the weights."""

    def __init__(self, head_dim: int, max_seq_len: int, theta: float) -> None:
        super().__init__()
        self.head_dim, self.max_seq_len, self.theta = head_dim, max_seq_len, theta
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Fill the tables, (max_seq_len, head_dim) each, on the device that the module was built on."""
        frequencies = self.theta ** (-torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        angles = torch.outer(torch.arange(self.max_seq_len, dtype=torch.float64), frequencies)  # (S, D/2)
        angles = torch.cat([angles, angles], dim=-1)
        self.cos, self.sin = angles.cos().float(), angles.sin().float()

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin for `position_ids` (B, T) or (T,), each (B, 1, T, D) or (T, D)."""
        cos, sin = self.cos[position_ids], self.sin[position_ids]
        return (cos.unsqueeze(1), sin.unsqueeze(1)) if position_ids.ndim == 2 else (cos, sin)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys `x` (B, H, T, D) by their positions' angles."""
    left, right = x.chunk(2, dim=-1)
    turned = torch.cat([-right, left], dim=-1)
    return (x * cos + turned * sin).to(x.dtype)
