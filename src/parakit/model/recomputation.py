"""Gradient checkpointing (Chen et al. 2016): a block keeps its inputs alone, and runs again in the backward pass.

`torch.utils.checkpoint` does this too, but imports PyTorch's compiler: 100 MB of a process and some seconds. It also builds
the graph of the first pass, whose many small nodes pin the memory between them: a heap that is cut up so grew to twice what a
step of a small model needs. Here the first pass has no graph. PyTorch's own is called where that is not enough: on other
devices, in compiled code, for blocks that are spread over processes, for experts and caches, which hand on tensors of a pass
in attributes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from parakit.model.kernels.attention import computed_again
from parakit.model.layers.experts import MixtureOfExperts


def recompute_in_backward(block: nn.Module, x: Tensor, *arguments: Any) -> Tensor:
    """block(x, *arguments). Arguments are tensors, tuples of tensors, or None; else, see the top of this file."""
    flat = [x, *(one for argument in arguments for one in _flat(argument))]
    plain = all(one is None or isinstance(one, Tensor) for one in flat)
    if not plain or x.device.type != "cpu" or torch.compiler.is_compiling() or _needs_pytorch(block):
        from torch.utils.checkpoint import checkpoint

        result: Tensor = checkpoint(block, x, *arguments, use_reentrant=False)
        return result
    trained = [parameter for parameter in block.parameters() if parameter.requires_grad]
    computed: Tensor = _Recomputed.apply(block, (x, *arguments), *flat, *trained)
    return computed


def _flat(argument: Any) -> tuple[Any, ...]:
    return argument if isinstance(argument, tuple) else (argument,)


def _needs_pytorch(block: nn.Module) -> bool:
    """Whether a block has experts, or weights in parts (DTensors), which are gathered in hooks of a pass."""
    return any(isinstance(module, MixtureOfExperts) for module in block.modules()) or any(
        hasattr(parameter, "placements") for parameter in block.parameters()
    )


class _Recomputed(torch.autograd.Function):
    """`tensors` are those of `arguments`, flat, and the trained parameters: what gradients flow to."""

    @staticmethod
    def forward(ctx: Any, block: nn.Module, arguments: tuple[Any, ...], *tensors: Tensor | None) -> Tensor:
        ctx.block, ctx.shape = block, [len(one) if isinstance(one, tuple) else None for one in arguments]
        ctx.autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        ctx.rng_state = torch.get_rng_state()
        ctx.save_for_backward(*tensors)
        with computed_again():
            result: Tensor = block(*arguments)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        n_flat = sum(1 if n is None else n for n in ctx.shape)
        tensors = list(ctx.saved_tensors)
        for i, tensor in enumerate(tensors[:n_flat]):
            if tensor is not None:
                tensors[i] = tensor.detach().requires_grad_(needed[i])
        remaining = iter(tensors)
        arguments = [
            next(remaining) if n is None else tuple(next(remaining) for _ in range(n)) for n in ctx.shape
        ]
        enabled, dtype = ctx.autocast
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(ctx.rng_state)
            with torch.enable_grad(), torch.autocast("cpu", dtype, enabled):
                # a scalar: for any other result torch.autograd imports PyTorch's compiler
                result = _Scalar.apply(ctx.block(*arguments), gradient)
        wanted = [tensor for tensor, wants in zip(tensors, needed, strict=True) if wants]
        found = torch.autograd.grad(result, wanted, allow_unused=True)
        del result, tensors, arguments, remaining, wanted
        # copies, in the memory that the block has left free: the found ones lie between what it computed, and would hold it
        gradients = iter([None if gradient is None else gradient.clone() for gradient in found])
        return None, None, *(next(gradients) if wants else None for wants in needed)


class _Scalar(torch.autograd.Function):
    """A number whose gradient for `result` is `gradient`."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient
        return result.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.gradient, None
