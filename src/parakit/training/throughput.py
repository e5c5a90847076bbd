"""How fast the hardware can multiply, and what share of that a run uses.

The peak is measured, not looked up: a table names the wrong device sooner or later. Large square products
in the run's own precision, best of several.
"""

from __future__ import annotations

import functools
import time

import torch


@functools.cache
def measured_peak_flops(device_type: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of large matrix products on this device, in `dtype`. Takes
    about a quarter of a second.
    """
    n = 8192 if device_type == "cuda" else 1024
    a = torch.randn(n, n, device=device_type).to(dtype)
    best = float("inf")
    deadline = time.perf_counter() + 0.25
    while time.perf_counter() < deadline or best == float("inf"):
        started = time.perf_counter()
        a @ a
        if device_type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best
