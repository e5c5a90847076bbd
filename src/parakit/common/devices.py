"""The device and the dtype to compute on. `auto` takes the GPU where there is one. Imports torch inside functions only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parakit.common.errors import UserError
from parakit.common.processes import is_distributed, local_rank

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16", "float64")


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: cuda, then mps, then cpu. An unavailable device is a `UserError`."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and ":" not in name and is_distributed():
            device = torch.device("cuda", local_rank())  # a card for each process of a machine
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}",
            "use --device auto or --device cpu",
        ) from None
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 on a GPU that computes in it, float32 elsewhere."""
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is not known", f"use one of: auto, {', '.join(DTYPES)}")
    return getattr(torch, name)
