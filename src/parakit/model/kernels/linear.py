"""One product with a quantized matrix by the compiled kernels, for layers that otherwise run in PyTorch."""

from __future__ import annotations

from ctypes import byref
from typing import Any

from parakit.model.kernels import layout
from parakit.model.kernels.library import load_kernels


def quantized_linear(x: Any, weight: Any) -> Any | None:
    """x (..., I) @ W^T -> (..., O) in x's dtype, without dequantizing W; None where PyTorch must compute it.

    `weight` has the buffers of `model/quantized/rounding.py`: `qweight`, `scales`, `zeros`, and a `scheme`. x is carried
    with 15 bits for each 32 features: results are within 1e-4 of float32's, relative to their norm, and a row's does not
    depend on the other rows.
    """
    import torch

    n_out, n_in = weight.shape
    if not x.is_cpu or x.numel() == 0 or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    library = load_kernels()
    buffers = [weight.qweight, weight.scales, *([] if weight.zeros is None else [weight.zeros])]
    if library is None or not all(buffer.is_contiguous() for buffer in buffers):
        return None
    kind = layout.INT8 if weight.scheme.bits == 8 else layout.INT4
    described = layout.Weight(
        kind=kind,
        n_out=n_out,
        n_in=n_in,
        group=weight.scheme.quant_group_size or 0,
        data=weight.qweight.data_ptr(),
        scales=weight.scales.data_ptr(),
        zeros=None if weight.zeros is None else weight.zeros.data_ptr(),
    )
    rows = x.detach().float().contiguous()
    result = torch.empty(*x.shape[:-1], n_out)
    library.parakit_matmul(
        byref(described), rows.data_ptr(), rows.numel() // n_in, result.data_ptr(), torch.get_num_threads()
    )
    return result.to(x.dtype)
