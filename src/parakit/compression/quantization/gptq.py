"""GPTQ: round one matrix column by column, so that the columns left make up for the error of those done.

Minimizes the error of the layer's outputs, tr((W - Q) H (W - Q)^T) with H = mean(x x^T) over calibration tokens (Frantar et
al. 2022, "GPTQ", algorithm 1). The order of columns is fixed for all rows, unlike in OBQ, which allows one Cholesky factor of
the inverse of H for all of them: row j of that factor passes on the rounding error of column j. With `act_order` the columns
of the largest inputs come first. A group's scale is chosen beforehand, from the weights that it has then, because its
columns need not follow one another.

Shapes: O outputs, I inputs, G groups of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.compression.quantization.config import GPTQConfig
from parakit.model.quantized import QuantizedTensor, QuantScheme, quantize_tensor
from parakit.model.quantized.rounding import BLOCK_VALUES, decode, encode, pack_nibbles

BLOCK_COLUMNS = 64  # the error of so many columns reaches the rest in one product


def gptq(weight: Tensor, hessian: Tensor, scheme: QuantScheme, config: GPTQConfig) -> QuantizedTensor:
    """Round a matrix (O, I) for inputs whose mean outer product is `hessian` (I, I). `UserError` where that has no inverse
    with the config's damping.
    """
    hessian = damped(hessian, config.damping)
    start = quantize_tensor(weight, scheme, search=config.scale_search, importance=hessian.diagonal())
    order = hessian.diagonal().argsort(descending=True) if config.act_order else torch.arange(len(hessian))
    factor = inverse_factor(hessian[order][:, order])
    n_rows = max(1, BLOCK_VALUES // len(hessian))
    codes = torch.empty(weight.shape, dtype=start.qweight.dtype)
    for first in range(0, len(weight), n_rows):
        rows = slice(first, first + n_rows)
        scales, zeros = _by_column(start.rows(rows.start, rows.stop), order)
        codes[rows, order] = _round_columns(weight[rows, order], factor, scales, zeros, scheme)
    return QuantizedTensor(
        pack_nibbles(codes) if scheme.bits == 4 else codes, start.scales, start.zeros, scheme
    )


def _round_columns(
    weight: Tensor, factor: Tensor, scales: Tensor, zeros: Tensor | None, scheme: QuantScheme
) -> Tensor:
    """The codes (O, I) of columns in this order; scales and zero points (I, O)."""
    left = weight.detach().float().T.contiguous()  # (I, O): a column of W is a row
    codes = torch.empty(left.shape, dtype=torch.int8 if scheme.bits == 8 else torch.uint8)
    for first in range(0, len(left), BLOCK_COLUMNS):
        last = min(first + BLOCK_COLUMNS, len(left))
        errors = torch.empty(last - first, left.shape[1])
        for column in range(first, last):
            zero = None if zeros is None else zeros[column]
            codes[column] = encode(left[column], scales[column], zero, scheme)
            rounded = decode(codes[column], scales[column], zero, scheme)
            errors[column - first] = (left[column] - rounded) / factor[column, column]
            left[column + 1 : last] -= factor[column, column + 1 : last, None] * errors[column - first]
        left[last:] -= factor[first:last, last:].T @ errors
    return codes.T


def damped(hessian: Tensor, damping: float) -> Tensor:
    """The Hessian in float64 with `damping` times its diagonal added to it; an input that never occurs gets 1.

    Correlations shrink by the same share for every input. The paper adds a share of the diagonal's mean instead, which in a
    language model the few inputs of massive activations decide: it is then far above all other inputs, and rounding stays
    plain rounding.
    """
    result = hessian.double().clone()
    diagonal = result.diagonal()
    diagonal *= 1 + damping
    diagonal[diagonal <= 0] = 1.0
    return result


def inverse_factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor (I, I) of the inverse of `hessian`, float32."""
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
        return torch.linalg.cholesky(inverse, upper=True).float()
    except torch.linalg.LinAlgError:
        raise UserError(
            "the inputs of a layer on the calibration text span too few directions to invert",
            "raise damping, or give more calibration text",
        ) from None


def corrected_weight(weight: Tensor, cross: Tensor, hessian: Tensor, damping: float) -> Tensor:
    """The matrix (O, I) whose outputs for the inputs that the layer now gets, x, are closest to W's for those that it had, u:
    W mean(u x^T) mean(x x^T)^-1, with `cross` = mean(u x^T) (I, I).
    """
    exact = damped(hessian, damping)
    shift = exact - hessian.double()  # of the diagonal: draws the result to W
    return torch.linalg.solve(exact, (weight.double() @ (cross.double() + shift)).T).T.to(weight.dtype)


def _by_column(start: QuantizedTensor, order: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scales and zero points (I, O) of every column, in `order`."""
    group_of = order * start.scales.shape[1] // start.shape[1]
    zeros = None if start.zeros is None else start.zeros.float().T[group_of]
    return start.scales.float().T[group_of], zeros
