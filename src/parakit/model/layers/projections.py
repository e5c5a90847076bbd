"""Several linear layers of one input, whose gradient is added up in place.

PyTorch makes a gradient of the input for each layer and adds them pass by pass; here the second product adds its result to
the first's. The layers are called as they are where they are more than a plain matrix: adapters, quantized weights, biases,
hooks, weights that are spread over processes.

Shapes: N vectors, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from parakit.model.kernels.training import PLAIN, is_plain_matrix


def project(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """x (..., I) -> (..., O) of each layer."""
    if _can_share(x, layers):
        results: tuple[Tensor, ...] = _Shared.apply(x, *(layer.weight for layer in layers))
        return results
    return tuple(layer(x) for layer in layers)


def _can_share(x: Tensor, layers: tuple[nn.Module, ...]) -> bool:
    return (
        torch.is_grad_enabled()
        and x.requires_grad
        and x.device.type == "cpu"
        and type(x) in PLAIN
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and all(is_plain_matrix(layer) for layer in layers)
    )


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *weights)
        return tuple(functional.linear(x, weight) for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, *weights = ctx.saved_tensors
        rows, slopes = x.reshape(-1, x.shape[-1]), [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        grad_x = slopes[0] @ weights[0]  # (N, I)
        for slope, weight in zip(slopes[1:], weights[1:], strict=True):
            torch.addmm(grad_x, slope, weight, out=grad_x)
        return grad_x.view(x.shape), *(slope.T @ rows for slope in slopes)
