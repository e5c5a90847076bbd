"""Weights in MXFP4, the format of gpt-oss's experts: read, as bfloat16 or wider, and never written.

A block of 32 values along the inputs has one exponent, a byte (E8M0, biased by 127), and a 4-bit float for each value (E2M1:
a sign, two bits of exponent, one of mantissa), two in a byte, the lower half first (Open Compute Project, "OCP microscaling
formats", version 1.0, sections 5.2 and 6). Every such number is one of bfloat16's too. The matrix NAME of a folder is two
tensors, `NAME_blocks` and `NAME_scales`, in the order (outputs, inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.common.errors import UserError

if TYPE_CHECKING:
    import torch

    from parakit.checkpoints.safetensors_io import TensorEntry

KEY = "quantization_config"
BLOCKS, SCALES = "_blocks", "_scales"
BLOCK_LEN = 32
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
EXPONENT_BIAS = 127


def require_mxfp4(hf_config: Mapping[str, Any], where: str | Path) -> None:
    """Raise `UserError` where weights are quantized by another method."""
    quantization = hf_config.get(KEY)
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
    if method not in (None, "mxfp4"):
        raise UserError(
            f"{where}: `{KEY}` is {quantization!r}, which means quantized weights; of these Parakit reads mxfp4",
            "take a folder with plain weights, or with those of the publisher",
        )


def packed_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the blocks and of the scales of a tensor (experts, inputs, outputs)."""
    n, inputs, outputs = shape
    scales = (n, outputs, -(-inputs // BLOCK_LEN))
    return (*scales, BLOCK_LEN // 2), scales


def is_packed(name: str, shape: tuple[int, ...], entries: Mapping[str, TensorEntry]) -> bool:
    """Whether the tensor `name` of this shape is in the folder as blocks and scales. Raises `UserError` where they
    are not those of such a tensor.
    """
    pair = [entries.get(name + suffix) for suffix in (BLOCKS, SCALES)]
    if name in entries or len(shape) != 3 or not any(pair):
        return False
    for suffix, entry, expected in zip((BLOCKS, SCALES), pair, packed_shapes(shape), strict=True):
        if entry is None:
            return False
        if entry.shape != expected or entry.dtype != "U8" or shape[1] % BLOCK_LEN:
            raise UserError(
                f"{entry.file}: tensor {name + suffix!r} is {entry.dtype} of shape {entry.shape}, and the MXFP4 form of"
                f" {shape} is U8 of {expected}",
                "it belongs to another model, or the file is damaged: fetch it again",
            )
    return True


def unpack(blocks: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Blocks (E, O, G, 16) and scales (E, O, G), both uint8 -> (E, I, O) of `dtype`, with I = 32 G."""
    import torch

    values = torch.tensor([*MAGNITUDES, *(-value for value in MAGNITUDES)])
    unpacked = torch.empty(len(blocks), blocks.shape[2] * BLOCK_LEN, blocks.shape[1], dtype=dtype)
    for expert, (packed, exponents) in enumerate(
        zip(blocks, scales, strict=True)
    ):  # one at a time: they are large
        halves = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2).int()  # (O, G, 32)
        scaled = torch.ldexp(values[halves], exponents.int()[..., None] - EXPONENT_BIAS)
        unpacked[expert] = scaled.flatten(1).T
    return unpacked
