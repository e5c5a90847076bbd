"""Quantized blocks of GGUF files to float32, with the same operations in the same order as ggml's reference.

A row is cut into blocks. A block of 32 weights (`Q8_0`, `Q4_0` ...) has a scale d, and a minimum m where it is not
symmetric: w = d q + m. A block of 256 weights (`Q4_K` ...) has sub-blocks whose 4- or 6-bit scales are multiplied by the
block's own: w = (d s) q - (dmin m). Left out: the importance-matrix kinds (IQ*), ternary and 4-bit float ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
_CHUNK = 2**16  # blocks at a time: intermediate arrays stay below 100 MB

# ggml's numbers; those without an entry in BLOCKS are only named in messages
KIND_NAMES = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1"},
    **{10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS"},
    **{17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S"},
    **{23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16"},
    **{34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4"},
}


def dequantize(raw: Bytes, kind: str) -> Floats:
    """Weights, one after another, from the bytes of whole blocks; `kind` is a key of `BLOCKS`."""
    per_block, block_bytes, convert = BLOCKS[kind]
    blocks = raw.reshape(-1, block_bytes)
    weights = np.empty((len(blocks), per_block), np.float32)
    chunk = max(_CHUNK, _CHUNK * 32 // per_block)
    for first in range(0, len(blocks), chunk):
        weights[first : first + chunk] = convert(np.ascontiguousarray(blocks[first : first + chunk]))
    return weights.reshape(-1)


def _half(blocks: Bytes, at: int) -> Floats:
    """A float16 of each block as float32 (N, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _bits(packed: Bytes, width: int, run: int) -> Bytes:
    """Numbers of `width` bits (N, numbers). In each run of `run` bytes the lowest bits of all bytes come first, then the
    next ones.
    """
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    runs = packed.reshape(len(packed), -1, 1, run)  # (N, runs, 1, run)
    return ((runs >> shifts) & np.uint8(2**width - 1)).reshape(len(packed), -1)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view(np.float16).astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_bits(blocks[:, 2:], 4, 16).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _bits(blocks[:, 4:], 4, 16).astype(np.float32) + _half(blocks, 2)


def _five_bits(high: Bytes, low: Bytes) -> Floats:
    """The fifth bits are one 32-bit number, those of weight 0 lowest."""
    fifth = np.unpackbits(np.ascontiguousarray(high), axis=1, bitorder="little")
    return (_bits(low, 4, 16) | (fifth << 4)).astype(np.float32)


def _q5_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_five_bits(blocks[:, 2:6], blocks[:, 6:]) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _five_bits(blocks[:, 4:8], blocks[:, 8:]) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)


def _grouped(scales: Floats, numbers: NDArray[np.generic]) -> Floats:
    """(N, groups) times (N, 256), each scale for its group of weights."""
    groups = numbers.astype(np.float32).reshape(*scales.shape, -1)
    return (scales[:, :, None] * groups).reshape(len(scales), -1)


def _minus_minima(weights: Floats, minima: Floats) -> Floats:
    return (weights.reshape(*minima.shape, -1) - minima[:, :, None]).reshape(len(weights), -1)


def _q2_k(blocks: Bytes) -> Floats:
    scales, numbers = blocks[:, :16], _bits(blocks[:, 16:80], 2, 32)
    weights = _grouped(_half(blocks, 80) * (scales & 15).astype(np.float32), numbers)
    return _minus_minima(weights, _half(blocks, 82) * (scales >> 4).astype(np.float32))


def _q3_k(blocks: Bytes) -> Floats:
    """The third bits are stored inverted; scales have four low bits in 8 bytes and two high bits in 4 bytes."""
    numbers = _bits(blocks[:, 32:96], 2, 32).astype(np.int8)
    numbers -= (1 - _bits(blocks[:, :32], 1, 32).astype(np.int8)) << 2
    scales = _bits(blocks[:, 96:104], 4, 8) | (_bits(blocks[:, 104:108], 2, 4) << 4)
    return _grouped(_half(blocks, 108) * (scales.astype(np.float32) - 32), numbers)


def _scales_and_minima(packed: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight minima of 6 bits from 12 bytes: the first four of each have a byte of their own, the others
    their low 4 bits in the last bytes and their high 2 bits on top of the first ones.
    """
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, (last & 15) | ((first >> 6) << 4)], axis=1)
    minima = np.concatenate([second & 63, (last >> 4) | ((second >> 6) << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _q4_k(blocks: Bytes) -> Floats:
    scales, minima = _scales_and_minima(blocks[:, 4:16])
    weights = _grouped(_half(blocks, 0) * scales, _bits(blocks[:, 16:], 4, 32))
    return _minus_minima(weights, _half(blocks, 2) * minima)


def _q5_k(blocks: Bytes) -> Floats:
    scales, minima = _scales_and_minima(blocks[:, 4:16])
    numbers = _bits(blocks[:, 48:], 4, 32) | (_bits(blocks[:, 16:48], 1, 32) << 4)
    weights = _grouped(_half(blocks, 0) * scales, numbers)
    return _minus_minima(weights, _half(blocks, 2) * minima)


def _q6_k(blocks: Bytes) -> Floats:
    numbers = _bits(blocks[:, :128], 4, 64) | (_bits(blocks[:, 128:192], 2, 32) << 4)
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    return _grouped(_half(blocks, 208) * scales, numbers.astype(np.float32) - 32)


# kind -> weights in a block, bytes of a block, conversion of (N, bytes) to (N, weights)
BLOCKS: dict[str, tuple[int, int, Callable[[Bytes], Floats]]] = {
    "F32": (1, 4, _f32),
    "F16": (1, 2, _f16),
    "BF16": (1, 2, _bf16),
    "Q8_0": (32, 34, _q8_0),
    "Q4_0": (32, 18, _q4_0),
    "Q4_1": (32, 20, _q4_1),
    "Q5_0": (32, 22, _q5_0),
    "Q5_1": (32, 24, _q5_1),
    "Q2_K": (256, 84, _q2_k),
    "Q3_K": (256, 110, _q3_k),
    "Q4_K": (256, 144, _q4_k),
    "Q5_K": (256, 176, _q5_k),
    "Q6_K": (256, 210, _q6_k),
}
