"""Float32 weights to the blocks of GGUF files: the inverse of `dequantization`.

The kinds of 32 weights a block (`Q8_0`, `Q4_0`, `Q5_0`, `Q5_1`) are rounded to the grid that the block's extremes span, as
ggml's reference does it, byte for byte. Those of 256 weights are in `k_quantization`. Left out: kinds that need an
importance matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from parakit.checkpoints.gguf.dequantization import BLOCKS, Bytes, Floats
from parakit.checkpoints.gguf.k_quantization import quantize_q4_k, quantize_q5_k, quantize_q6_k
from parakit.common.errors import UserError

_CHUNK = 2**16  # weights at a time: the arrays in between stay in the processor's cache
MAX_HALF = 65504.0  # float16's greatest number


def quantize(weights: Floats, kind: str) -> Bytes:
    """The bytes of `weights`, whose number is a multiple of the kind's block. Raises `UserError` for weights that the
    kind's float16 numbers cannot hold.
    """
    per_block, block_bytes, _ = BLOCKS[kind]
    blocks = np.ascontiguousarray(weights, np.float32).reshape(-1, per_block)
    largest = float(np.abs(blocks).max(initial=0.0))
    if kind not in ("F32", "BF16") and not largest <= MAX_HALF:
        raise UserError(f"{kind} ends at {MAX_HALF:.0f}, and a weight is {largest:.6g}", "choose F32 or BF16")
    packed = np.empty((len(blocks), block_bytes), np.uint8)
    chunk = max(1, _CHUNK // per_block)

    def convert(first: int) -> None:
        packed[first : first + chunk] = _QUANTIZERS[kind](blocks[first : first + chunk])

    with ThreadPoolExecutor() as pool:  # numpy computes outside Python's lock
        list(pool.map(convert, range(0, len(blocks), chunk)))
    return packed.reshape(-1)


def _f32(blocks: Floats) -> Bytes:
    return blocks.view(np.uint8)


def _f16(blocks: Floats) -> Bytes:
    return blocks.astype(np.float16).view(np.uint8)


def _bf16(blocks: Floats) -> Bytes:
    """To the closest, and of two equally close to the even one."""
    bits = blocks.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1)))
    return (rounded >> 16).astype(np.uint16).view(np.uint8)


def _inverse(scales: Floats) -> Floats:
    """1 / scale; 0 where the scale is 0, as in a block of zeros."""
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)


def _halves(values: Floats) -> Bytes:
    """(N, 1) as two bytes each."""
    return np.ascontiguousarray(values.astype(np.float16)).view(np.uint8)


def _nibbles(numbers: Bytes) -> Bytes:
    """Numbers of 4 bits (N, 32): the first half of a block in the low bits, the second in the high ones."""
    return (numbers[:, :16] | (numbers[:, 16:] << 4)).astype(np.uint8)


def _signed_extreme(blocks: Floats) -> Floats:
    """The weight of each block that is the furthest from 0 (N, 1)."""
    return np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)


def _q8_0(blocks: Floats) -> Bytes:
    scales = np.abs(blocks).max(1, keepdims=True) / np.float32(127)
    scaled = blocks * _inverse(scales)
    numbers = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)  # halves away from 0
    return np.concatenate([_halves(scales), numbers.view(np.uint8)], axis=1)


def _centred(blocks: Floats, middle: int) -> tuple[Floats, Bytes]:
    """Scales, and numbers from 0 to 2 `middle` - 1 of which the extreme has 0."""
    scales = _signed_extreme(blocks) / np.float32(-middle)
    numbers = np.trunc(blocks * _inverse(scales) + np.float32(middle + 0.5))
    return scales, np.minimum(numbers, 2 * middle - 1).astype(np.uint8)


def _q4_0(blocks: Floats) -> Bytes:
    scales, numbers = _centred(blocks, 8)
    return np.concatenate([_halves(scales), _nibbles(numbers)], axis=1)


def _five_bits(numbers: Bytes) -> tuple[Bytes, Bytes]:
    """The fifth bits of a block's numbers as one number of 32 bits, and the low four."""
    return np.packbits(numbers >> 4, axis=1, bitorder="little"), _nibbles(numbers & np.uint8(15))


def _q5_0(blocks: Floats) -> Bytes:
    scales, numbers = _centred(blocks, 16)
    return np.concatenate([_halves(scales), *_five_bits(numbers)], axis=1)


def _q5_1(blocks: Floats) -> Bytes:
    lowest = blocks.min(1, keepdims=True)
    scales = (blocks.max(1, keepdims=True) - lowest) / np.float32(31)
    numbers = np.trunc((blocks - lowest) * _inverse(scales) + np.float32(0.5)).astype(np.uint8)
    return np.concatenate([_halves(scales), _halves(lowest), *_five_bits(numbers)], axis=1)


_QUANTIZERS: dict[str, Callable[[Floats], Bytes]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q4_K": quantize_q4_k,
    "Q5_K": quantize_q5_k,
    "Q6_K": quantize_q6_k,
}
