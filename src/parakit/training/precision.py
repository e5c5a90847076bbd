"""Mixed precision: the autocast type of the forward pass, and the loss scale for float16.

Weights, gradients and moments stay in float32; autocast lowers the matrix products, and the loss is always computed in
float32. In float16 small gradients vanish, so the loss is scaled up (Micikevicius et al. 2018,
section 3.2): doubled after 2,000 good steps, halved after an overflow.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Literal

import torch

GROW_AFTER_STEPS = 2000
# How much faster bfloat16 must multiply to be chosen on a CPU: autocast also converts weights and activations.
BFLOAT16_GAIN = 1.5
TIMED_ROWS, TIMED_SECONDS = 256, 0.1


def faster_precision(d_model: int, d_ff: int) -> Literal["float32", "bfloat16"]:
    """The type in which this CPU multiplies matrices of a model's shapes faster, timed in about a fifth of a second: a
    processor without units for bfloat16 is slower in it.
    """
    gain = product_seconds(d_model, d_ff, torch.float32) / product_seconds(d_model, d_ff, torch.bfloat16)
    return "bfloat16" if gain >= BFLOAT16_GAIN else "float32"


def product_seconds(d_model: int, d_ff: int, dtype: torch.dtype) -> float:
    """The least time of one product of activations and a feed-forward matrix."""
    x, weight = torch.randn(TIMED_ROWS, d_model).to(dtype), torch.randn(d_ff, d_model).to(dtype)
    best, ends = float("inf"), time.perf_counter() + TIMED_SECONDS
    while time.perf_counter() < ends or best == float("inf"):
        started = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - started)
    return best


class Precision:
    """The autocast context and the loss scale of one run; `scale` and `n_good_steps` are training state."""

    def __init__(self, name: str, device: torch.device) -> None:
        from parakit.common.devices import pick_dtype

        self.dtype = pick_dtype(name, device)
        self.device = device
        self.scale = 2.0**16 if self.dtype == torch.float16 else 1.0
        self.n_good_steps = 0

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context of a forward pass."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def unscale(self, parameters: Iterable[torch.Tensor]) -> None:
        """Divide the gradients by the loss scale, before they are clipped."""
        if self.scale != 1.0:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(1 / self.scale)

    def update(self, overflowed: bool) -> None:
        """Adapt the scale after a step; a no-op outside float16."""
        if self.dtype != torch.float16:
            return
        self.n_good_steps = 0 if overflowed else self.n_good_steps + 1
        if overflowed:
            self.scale = max(1.0, self.scale / 2)
        elif self.n_good_steps % GROW_AFTER_STEPS == 0:
            self.scale *= 2
