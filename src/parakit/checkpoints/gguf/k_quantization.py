"""The kinds of 256 weights a block, `Q4_K`, `Q5_K` and `Q6_K`: scales are searched so that the squared error is small.

A sub-block's numbers q and its scale d (and minimum m, w = d q - m) depend on each other. For each scale of a small grid
around the one that the extremes give, the weights are rounded, and then d and m are solved for by weighted least squares;
the candidate with the smallest error stays (the way of ggml's reference quantizers; weighted, because large weights matter
more). The sub-blocks' scales are rounded in their turn to 6 or 8 bits, and the numbers rounded once more to the scales
that are stored.
"""

from __future__ import annotations

import numpy as np

from parakit.checkpoints.gguf.dequantization import Bytes, Floats

_TINY = np.float32(1e-15)


def quantize_q4_k(blocks: Floats) -> Bytes:
    """(N, 256) weights to (N, 144) bytes."""
    heads, numbers = _with_minima(blocks, 15, start=-1.0, n_steps=20)
    pairs = numbers.reshape(len(blocks), 4, 2, 32)  # 64 weights share 32 bytes: low bits, then high bits
    packed = pairs[:, :, 0] | (pairs[:, :, 1] << 4)
    return np.concatenate([heads, packed.reshape(len(blocks), 128)], axis=1)


def quantize_q5_k(blocks: Floats) -> Bytes:
    """(N, 256) weights to (N, 176) bytes."""
    heads, numbers = _with_minima(blocks, 31, start=-0.5, n_steps=15)
    groups = numbers.reshape(len(blocks), 8, 32)
    shifts = np.arange(8, dtype=np.uint8)[None, :, None]
    fifth = np.bitwise_or.reduce((groups >> 4) << shifts, axis=1)  # bit i of a byte belongs to sub-block i
    low = (groups & np.uint8(15)).reshape(len(blocks), 4, 2, 32)
    packed = (low[:, :, 0] | (low[:, :, 1] << 4)).reshape(len(blocks), 128)
    return np.concatenate([heads, fifth, packed], axis=1)


def quantize_q6_k(blocks: Floats) -> Bytes:
    """(N, 256) weights to (N, 210) bytes: 16 sub-blocks with a scale of 8 bits each, no minima."""
    n = len(blocks)
    weights = blocks.reshape(n * 16, 16)
    scales = _symmetric_scales(weights, 32).reshape(n, 16)
    extreme = np.take_along_axis(scales, np.abs(scales).argmax(1)[:, None], 1)
    small = (scales == 0).all(1)  # a block of zeros
    inverse = np.where(small[:, None], 0, np.float32(-128) / np.where(extreme == 0, 1, extreme))
    d = _stored_half(np.divide(1, inverse, out=np.zeros_like(inverse), where=inverse != 0))
    numbers_of_scales = np.minimum(np.rint(inverse * scales), 127).astype(np.int8)
    rounded = _round_to(weights, (d * numbers_of_scales).reshape(-1, 1), 0, -32, 31) + 32
    numbers: Bytes = rounded.reshape(n, 2, 4, 32).astype(np.uint8)  # halves of 128 weights
    low = numbers & 15  # 64 bytes a half: weights 0-63 low, 64-127 high
    packed = np.concatenate([low[:, :, 0] | (low[:, :, 2] << 4), low[:, :, 1] | (low[:, :, 3] << 4)], axis=2)
    shifts = np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]
    high = np.bitwise_or.reduce((numbers >> 4) << shifts, axis=2)  # 32 bytes a half
    parts = [packed.reshape(n, 128), high.reshape(n, 64), numbers_of_scales.view(np.uint8), _bytes_of(d)]
    return np.concatenate(parts, axis=1)


def _with_minima(blocks: Floats, top: int, start: float, n_steps: int) -> tuple[Bytes, Bytes]:
    """The first 16 bytes of each block (scale, minimum, and 12 bytes of the sub-blocks' scales and minima), and the numbers
    (N, 256) from 0 to `top`. The grid begins at `start` and has `n_steps` steps of 0.1.
    """
    n = len(blocks)
    weights = blocks.reshape(n * 8, 32)
    scales, minima = (part.reshape(n, 8) for part in _scales_and_minima(weights, top, start, n_steps))
    stored_scales, d = _six_bits(scales)
    stored_minima, dmin = _six_bits(minima)
    numbers = _round_to(
        weights, (d * stored_scales).reshape(-1, 1), (dmin * stored_minima).reshape(-1, 1), 0, top
    )
    heads = [_bytes_of(d), _bytes_of(dmin), _packed_scales(stored_scales, stored_minima)]
    return np.concatenate(heads, axis=1), numbers.reshape(n, 256).astype(np.uint8)


def _six_bits(values: Floats) -> tuple[Bytes, Floats]:
    """Values >= 0 (N, 8) as numbers of 6 bits, and the float16 (N, 1) that they are multiplied by."""
    largest = values.max(1, keepdims=True)
    inverse = np.divide(63, largest, out=np.zeros_like(largest), where=largest > 0)
    numbers = np.minimum(np.rint(values * inverse), 63).astype(np.uint8)
    return numbers, _stored_half(largest / np.float32(63))


def _packed_scales(scales: Bytes, minima: Bytes) -> Bytes:
    """12 bytes: the first four of each have their low 6 bits in a byte, whose top 2 bits are those of the last four."""
    first = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
    second = minima[:, :4] | ((minima[:, 4:] >> 4) << 6)
    last = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    return np.concatenate([first, second, last], axis=1)


def _scales_and_minima(weights: Floats, top: int, start: float, n_steps: int) -> tuple[Floats, Floats]:
    """Scale d and minimum m >= 0 of each sub-block, w = d q - m (rows, 1)."""
    importance = np.sqrt(np.square(weights).mean(1, keepdims=True)) + np.abs(weights)
    lowest = np.minimum(weights.min(1, keepdims=True), 0)
    spread = weights.max(1, keepdims=True) - lowest
    d, m = spread / np.float32(top), -lowest
    best = _weighted_error(weights, importance, _round_to(weights, d, m, 0, top), d, m)
    total, total_x = importance.sum(1, keepdims=True), (importance * weights).sum(1, keepdims=True)
    flat = spread <= _TINY
    safe = np.where(flat, 1, spread)
    for step in range(n_steps + 1):
        inverse = np.float32(start + 0.1 * step + top) / safe
        q = np.clip(np.rint((weights - lowest) * inverse), 0, top)
        wq = importance * q
        sum_q, sum_qq = wq.sum(1, keepdims=True), (wq * q).sum(1, keepdims=True)
        sum_qx = (wq * weights).sum(1, keepdims=True)
        determinant = total * sum_qq - sum_q * sum_q
        solvable = determinant > 0
        divisor = np.where(solvable, determinant, 1)
        new_d = (total * sum_qx - total_x * sum_q) / divisor
        offset = (sum_qq * total_x - sum_q * sum_qx) / divisor  # -m; above 0 it cannot be stored
        above = offset > 0
        new_d = np.where(above, sum_qx / np.where(sum_qq > 0, sum_qq, 1), new_d)
        new_m = np.where(above, 0, -offset)
        error = _weighted_error(weights, importance, q, new_d, new_m)
        better = solvable & (error < best) & ~flat
        d, m, best = np.where(better, new_d, d), np.where(better, new_m, m), np.where(better, error, best)
    return np.maximum(d, 0), m


def _weighted_error(weights: Floats, importance: Floats, q: Floats, d: Floats, m: Floats) -> Floats:
    error: Floats = (importance * np.square(d * q - m - weights)).sum(1, keepdims=True)
    return error


def _symmetric_scales(weights: Floats, middle: int) -> Floats:
    """The scale of each sub-block (rows, 1) for numbers from -middle to middle - 1, with w^2 as the weights of errors."""
    extreme = np.take_along_axis(weights, np.abs(weights).argmax(1)[:, None], 1)
    flat = np.abs(extreme) < _TINY
    safe = np.where(flat, 1, extreme)
    squares = np.square(weights)
    scale, best = np.zeros_like(extreme), np.full_like(extreme, -1)
    for step in (0, *range(-9, 0), *range(1, 10)):
        inverse = np.float32(-(middle + 0.1 * step)) / safe
        q = np.clip(np.rint(weights * inverse), -middle, middle - 1)
        wq = squares * q
        sum_qx, sum_qq = (wq * weights).sum(1, keepdims=True), (wq * q).sum(1, keepdims=True)
        divisor = np.where(sum_qq > 0, sum_qq, 1)
        gain = np.square(sum_qx) / divisor  # what the best scale for these numbers removes of the error
        better = (sum_qq > 0) & (gain > best)
        scale, best = np.where(better, sum_qx / divisor, scale), np.where(better, gain, best)
    return np.where(flat, 0, scale)


def _round_to(weights: Floats, d: Floats, m: Floats | int, low: int, high: int) -> Floats:
    """The numbers q from `low` to `high` with d q - m nearest to the weights; 0 where d is 0."""
    shifted = weights + m
    numbers = np.divide(shifted, d, out=np.zeros_like(shifted), where=d != 0)
    return np.clip(np.rint(numbers), low, high)


def _stored_half(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def _bytes_of(values: Floats) -> Bytes:
    return np.ascontiguousarray(values.astype(np.float16)).view(np.uint8)
