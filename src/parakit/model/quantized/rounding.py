"""Round a matrix to integers with scales, and back: the canonical layout that kernels read in place.

    8 bits: qweight int8 (O, I), in -127..127                value = q * scale
    4 bits: qweight uint8 (O, I / 2), two codes a byte,      value = (u - zero) * scale, u in 0..15;
            low nibble = even input, high nibble = odd       zero = 8 where symmetric
    zeros:  uint8 (O, G), 4 bits without symmetry only; else None
    scales: float32 (O, 1) per row; float16 (O, G) for groups

Rounding to nearest errs by at most half a step (= scale). The scale is the smallest for which no value is clipped by more
than that, or (`search`) the one of least squared error among scales around it, as in OMSE (Choukroun et al. 2019).

Shapes: O outputs, I inputs, G groups of a row, S inputs of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.model.quantized.scheme import QuantScheme

BLOCK_VALUES = 1 << 20  # dequantized at once: 4 MB of float32
SEARCH_BLOCK = 1 << 17  # a search passes over a block dozens of times: it stays in the processor's cache
SHRINKAGE = tuple(1.0 - 0.06 * step for step in range(9))  # 1.0 to 0.52 of the scale without clipping
WIDENING = tuple(1.0 + 0.0075 * step for step in range(60))  # in such steps 127 codes move by less than one
MAX_SCALE = 4096.0  # 15 steps are a float16


@dataclass(frozen=True)
class QuantizedTensor:
    """One matrix in the canonical layout; see the top of this file."""

    qweight: Tensor
    scales: Tensor
    zeros: Tensor | None
    scheme: QuantScheme

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I)"""
        n_out, n_stored = self.qweight.shape
        return n_out, n_stored * 8 // self.scheme.bits

    def rows(self, first: int, last: int) -> QuantizedTensor:
        """A view of some output rows."""
        zeros = None if self.zeros is None else self.zeros[first:last]
        return QuantizedTensor(self.qweight[first:last], self.scales[first:last], zeros, self.scheme)


def quantize_tensor(
    weight: Tensor, scheme: QuantScheme, *, search: bool = False, importance: Tensor | None = None
) -> QuantizedTensor:
    """Round a matrix (O, I) to nearest. `search`: choose scales of least squared error, where `importance` (I,) weighs the
    inputs, such as their mean square on some text; without it all weigh the same.

    `UserError` where the shape does not fit the scheme, or a value is not finite or too large for float16 scales.
    """
    scheme.check("a matrix", (weight.shape[0], weight.shape[1]))
    qweight, scales, zeros = [], [], []
    for block in weight.split(max(1, SEARCH_BLOCK // weight.shape[1])) if search else row_blocks(weight):
        w = block.detach().float().unflatten(1, (scheme.groups(weight.shape[1]), -1))  # (O', G, S)
        scale, zero = scales_of(w, scheme)
        if search:
            weights = (
                None if importance is None else importance.float().to(w.device).unflatten(0, (w.shape[1], -1))
            )
            by_range = _search_wider if scheme.bits == 8 else _search
            scale, zero = by_range(w, scale, scheme, weights)
        codes = encode(w, scale, zero, scheme).flatten(1)
        qweight.append(pack_nibbles(codes) if scheme.bits == 4 else codes)
        scales.append(scale[..., 0].to(scale_dtype(scheme)))
        zeros.append(None if zero is None else zero[..., 0].to(torch.uint8))
    joined = torch.cat([zero for zero in zeros if zero is not None]) if zeros[0] is not None else None
    return QuantizedTensor(torch.cat(qweight), torch.cat(scales), joined, scheme)


def dequantize(tensor: QuantizedTensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(O, I) of `dtype`; values are computed in float32. One block at a time costs less memory: see `row_blocks`."""
    codes = tensor.qweight if tensor.scheme.bits == 8 else unpack_nibbles(tensor.qweight)
    values = codes.unflatten(-1, (tensor.scales.shape[-1], -1)).float()
    if tensor.scheme.bits == 4:
        values -= 8.0 if tensor.zeros is None else tensor.zeros[..., None]
    values *= tensor.scales[..., None].float()
    return values.flatten(-2).to(dtype)


def scale_dtype(scheme: QuantScheme) -> torch.dtype:
    """The dtype of stored scales."""
    return torch.float32 if scheme.quant_group_size is None else torch.float16


def scales_of(w: Tensor, scheme: QuantScheme, shrink: float | Tensor = 1.0) -> tuple[Tensor, Tensor | None]:
    """Scales (..., 1) float32 and zero points of groups w (..., S), rounded as they are stored. `shrink` < 1 clips the
    largest values to make the steps smaller.
    """
    if not torch.isfinite(w).all():
        raise UserError(
            "a matrix to quantize holds NaN or infinity", "fetch the model again, or train it again"
        )
    if scheme.symmetric:
        half_range = 127.0 if scheme.bits == 8 else 7.5
        return store_scale(w.abs().amax(-1, keepdim=True) * shrink / half_range, scheme), None
    low = w.amin(-1, keepdim=True).clamp(max=0) * shrink
    high = w.amax(-1, keepdim=True).clamp(min=0) * shrink
    scale = store_scale((high - low) / 15, scheme)
    return scale, (-low / scale).round().clamp(0, 15)


def store_scale(scale: Tensor, scheme: QuantScheme) -> Tensor:
    """`scale` in float32, rounded up to a value that is stored; a group of zeros has a positive one.

    A 4-bit group's scale has so few significant bits that every value of the group is a float16 too: programs that dequantize
    in the scales' dtype then compute with the same weights.
    """
    if scale_dtype(scheme) == torch.float32:
        return scale.clamp(min=torch.finfo(torch.float32).tiny)
    if (largest := scale.max().item()) > MAX_SCALE:
        raise UserError(
            f"a matrix to quantize needs the scale {largest:.3g}; {MAX_SCALE:g} is the limit of float16 scales",
            "choose scales per row instead of groups",
        )
    half = scale.clamp(min=2.0**-24).half()
    bits = half.view(torch.int16).int() + (
        half.float() < scale
    )  # the next larger float16 where it was rounded down
    dropped = 0 if scheme.bits == 8 else 3 if scheme.symmetric else 4
    bits = (bits + (1 << dropped) - 1) >> dropped << dropped
    return bits.short().view(torch.float16).float()


def encode(w: Tensor, scale: Tensor, zero: Tensor | None, scheme: QuantScheme) -> Tensor:
    """The stored codes of groups w (..., S): int8, or uint8 in 0..15."""
    if scheme.bits == 8:
        return (w / scale).round().clamp(-127, 127).to(torch.int8)
    return ((w / scale).round() + (8 if zero is None else zero)).clamp(0, 15).to(torch.uint8)


def decode(codes: Tensor, scale: Tensor, zero: Tensor | None, scheme: QuantScheme) -> Tensor:
    """The float32 values of codes (..., S)."""
    if scheme.bits == 8:
        return codes.float() * scale
    return (codes.float() - (8 if zero is None else zero)) * scale


def pack_nibbles(codes: Tensor) -> Tensor:
    """uint8 (..., I) in 0..15 -> (..., I / 2)"""
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """uint8 (..., I / 2) -> (..., I) in 0..15"""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)


def row_blocks(weight: Tensor) -> tuple[Tensor, ...]:
    """Views of some rows each, of at most `BLOCK_VALUES` elements."""
    return weight.split(max(1, BLOCK_VALUES // weight.shape[1]))


def _search(
    w: Tensor, start: Tensor, scheme: QuantScheme, weights: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Scales and zero points of least weighted squared error: over shrunken ranges, each with the scale that fits its codes
    best. The error for fixed codes u is a quadratic of the scale, |w|^2 - 2 s <w, u> + s^2 <u, u>.
    """
    least = torch.full_like(start, torch.inf)
    _, first_zero = scales_of(w, scheme)
    scale, zero = start, first_zero
    for shrink in SHRINKAGE:
        candidate, offset = scales_of(w, scheme, shrink)
        codes = _steps(w, candidate, offset, scheme)
        weighted = codes if weights is None else codes * weights
        of_both = (weighted * w).sum(-1, keepdim=True)
        of_codes = (weighted * codes).sum(-1, keepdim=True)
        fitted = of_both / of_codes
        fitted = store_scale(torch.where((fitted > 0) & fitted.isfinite(), fitted, candidate), scheme)
        for one in (candidate, fitted):
            error = one * (one * of_codes - 2 * of_both)
            better = error < least
            least = torch.where(better, error, least)
            scale = torch.where(better, one, scale)
            zero = None if offset is None or zero is None else torch.where(better, offset, zero)
    # sums round: keep what clips nothing where it is better after all
    worse = _error(w, scale, zero, scheme, weights) > _error(w, start, first_zero, scheme, weights)
    zero = None if zero is None or first_zero is None else torch.where(worse, first_zero, zero)
    return torch.where(worse, start, scale), zero


def _search_wider(
    w: Tensor, start: Tensor, scheme: QuantScheme, weights: Tensor | None
) -> tuple[Tensor, None]:
    """Scales of least weighted squared error for 8 bits, where clipping gains nothing: over wider ranges.

    Weights on a grid already, such as those read from a GGUF file of 4 bits, are on that of some larger scale again, but for
    what the grid is shifted: the error of groups of 32 is a fifth then. A whole row crosses too many grids for that. The best
    scale for codes u explains <w, u>^2 / <u, u> of |w|^2.
    """
    most = torch.full_like(start, -torch.inf)
    scale = start
    for factor in WIDENING if scheme.quant_group_size is not None else WIDENING[:1]:
        codes = (w / (start * factor)).round_()
        weighted = codes if weights is None else codes * weights
        of_both = (weighted * w).sum(-1, keepdim=True)
        fitted = of_both / weighted.mul_(codes).sum(-1, keepdim=True)
        explained = of_both * fitted
        better = (explained > most) & fitted.isfinite() & (fitted > 0)
        most = torch.where(better, explained, most)
        scale = torch.where(better, fitted, scale)
    scale = store_scale(scale, scheme)
    worse = _error(w, scale, None, scheme, weights) > _error(w, start, None, scheme, weights)
    return torch.where(worse, start, scale), None


def _steps(w: Tensor, scale: Tensor, zero: Tensor | None, scheme: QuantScheme) -> Tensor:
    """The codes of groups w (..., S) relative to their zero point, float32."""
    steps = (w / scale).round_()
    if scheme.bits == 8:
        return steps.clamp_(-127, 127)
    offset: Tensor | float = 8.0 if zero is None else zero
    return steps.add_(offset).clamp_(0, 15).sub_(offset)


def _error(
    w: Tensor, scale: Tensor, zero: Tensor | None, scheme: QuantScheme, weights: Tensor | None
) -> Tensor:
    error = _steps(w, scale, zero, scheme).mul_(scale).sub_(w).square_()
    return (error if weights is None else error.mul_(weights)).sum(-1, keepdim=True)
