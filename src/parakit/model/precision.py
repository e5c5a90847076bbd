"""The type in which logits and losses are computed."""

from __future__ import annotations

import torch


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """`x` in float32, or in float64 where the model is."""
    return x if x.dtype == torch.float64 else x.float()
