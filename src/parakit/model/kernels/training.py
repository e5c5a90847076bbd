"""What happens between the products of a training step, by the compiled kernels: forward and backward of RMSNorm, rotary
positions, SwiGLU and cross-entropy.

PyTorch computes each as five to ten operations that pass over memory and hold what they make: of a 1M-parameter model they
take as long as its products. Here each is one pass, and a backward pass needs the inputs alone. Every function returns None
where PyTorch must compute it: on other devices, in other dtypes, for tensors that are views of another layout or of several
processes, in compiled code, without a compiler.

Shapes: N rows, F features, B batch, H heads, T tokens, D head_dim, V vocabulary.
"""

from __future__ import annotations

from ctypes import c_int64
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from parakit.model.kernels.library import load_training_kernels

PLAIN = (Tensor, nn.Parameter)
MAX_HEAD_DIM = 512  # as in `csrc/training.h`
# Numbers of a norm from which on it is computed again in a backward pass instead of kept; for fewer the call costs more.
COMPUTED_AGAIN = 2**18
NORM_OF = "parakit_norm_of"  # the attribute of a tensor


class Normed(NamedTuple):
    """What a norm was computed from."""

    x: Tensor
    weight: Tensor
    eps: float


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor | None:
    """x (..., F) / sqrt(mean(x^2) + eps) * weight (F,)."""
    if not (served(x, weight) and has_dense_rows(x) and weight.is_contiguous()):
        return None
    result: Tensor = _RmsNorm.apply(x, weight, eps)
    if torch.is_grad_enabled() and x.numel() >= COMPUTED_AGAIN:
        setattr(result, NORM_OF, Normed(x, weight, eps))
    return result


def norm_of(x: Tensor) -> Normed | None:
    """What `rms_norm` computed x from, where keeping that instead of x saves memory. None if x was changed in place since."""
    found: Normed | None = getattr(x, NORM_OF, None)
    return None if found is None or x._version else found


def norm_again(normed: Normed) -> Tensor:
    """The norm, bit for bit."""
    return _normed(*normed)[0]


def swiglu(gate: Tensor, up: Tensor) -> Tensor | None:
    """silu(gate) * up, of two tensors of one shape."""
    if not (served(gate, up) and gate.shape == up.shape and gate.is_contiguous() and up.is_contiguous()):
        return None
    result: Tensor = _SwiGlu.apply(gate, up)
    return result


def swiglu_down(gate: Tensor, up: Tensor, down: nn.Module) -> Tensor | None:
    """down(silu(gate) * up), whose inner vectors are computed again in the backward pass instead of kept."""
    if not (is_plain_matrix(down) and torch.is_grad_enabled()):
        return None  # without a gradient nothing would be kept
    weight: Tensor = down.get_parameter("weight")
    if not served(gate, up, weight):
        return None
    if not (gate.shape == up.shape and gate.is_contiguous() and up.is_contiguous()):
        return None
    result: Tensor = _SwiGluDown.apply(gate, up, weight)
    return result


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor | None:
    """x (B, H, T, D) rotated by the angles of its positions; cos and sin (T, D) or (B, 1, T, D)."""
    if not (served(x, cos, sin) and _are_angles(x, cos, sin)):
        return None
    result: Tensor = _Rotated.apply(x, cos, sin)
    return result


def normed_and_rotated(x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor | None:
    """As `rotated`, of the RMSNorm of each head of x with weight (D,)."""
    if not (served(x, weight, cos, sin) and _are_angles(x, cos, sin) and has_dense_rows(x)):
        return None
    if (
        weight.shape != x.shape[3:]
        or not weight.is_contiguous()
        or x.shape[3] % 2
        or x.shape[3] > MAX_HEAD_DIM
    ):
        return None
    result: Tensor = _NormedAndRotated.apply(x, weight, eps, cos, sin)
    return result


def _are_angles(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether cos and sin, constants, are those of x."""
    if not (x.ndim == 4 and x.stride(-1) == 1 and cos.is_contiguous() and sin.is_contiguous()):
        return False
    of_rows = cos.ndim == 2 or cos.shape[:2] == (len(x), 1)
    return cos.shape[-2:] == x.shape[2:] and of_rows and not cos.requires_grad


def cross_entropy_gradient(logits: Tensor, target_ids: Tensor) -> Tensor | None:
    """Turns logits (N, V) into the gradient of their summed cross-entropy with target_ids (N,) int64; returns the losses
    (N,) in nats. Not for autograd.
    """
    if not (served(logits) and logits.is_contiguous() and target_ids.dtype == torch.int64):
        return None
    targets = target_ids.contiguous()
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]:
        return None  # PyTorch raises
    losses = logits.new_empty(len(logits))
    call("parakit_cross_entropy", logits, targets, *logits.shape, losses)
    return losses


def is_plain_matrix(layer: nn.Module) -> bool:
    """Whether calling `layer` is a product with its trained matrix and nothing else: no adapter, no bias, no hook, no
    `forward` of its own.
    """
    weight = layer._parameters.get("weight")
    return (
        type(layer) is nn.Linear
        and layer._parameters["bias"] is None
        and type(weight) is nn.Parameter
        and weight.requires_grad
        and not has_hooks(layer)
    )


def has_hooks(layer: nn.Module) -> bool:
    """Whether calling `layer` does more than its class says."""
    return bool(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or "forward" in vars(layer)
    )


def served(*tensors: Tensor) -> bool:
    """Whether the kernels compute with such tensors here."""
    return (
        all(type(one) in PLAIN and one.dtype == torch.float32 and one.device.type == "cpu" for one in tensors)
        and tensors[0].numel() > 0
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and load_training_kernels() is not None
    )


def has_dense_rows(x: Tensor) -> bool:
    """Whether rows of the last dimension fill their memory, in whatever order: of (B, H, T, D) heads are often split."""
    return x.is_contiguous() or (x.ndim == 4 and x.transpose(1, 2).is_contiguous())


def in_layout_of(x: Tensor, model: Tensor) -> Tensor:
    """`x` in the memory layout of `model`."""
    return x if x.stride() == model.stride() else torch.empty_like(model).copy_(x)


def call(name: str, *arguments: Any) -> None:
    library = load_training_kernels()
    assert library is not None
    plain = (one.data_ptr() if isinstance(one, Tensor) else one for one in arguments)
    getattr(library, name)(*plain, torch.get_num_threads())


def _normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm, and 1 / sqrt(mean(x^2) + eps) of each row."""
    width = x.shape[-1]
    result, inverse = torch.empty_like(x), x.new_empty(x.numel() // width)
    call("parakit_rms_norm", x, weight, eps, len(inverse), width, result, inverse)
    return result, inverse


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        result, inverse = _normed(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        grad, grad_x = in_layout_of(grad, x), torch.empty_like(x)
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        rows = len(inverse), x.shape[-1]
        call("parakit_rms_norm_gradients", grad, x, weight, inverse, *rows, grad_x, grad_weight)
        return grad_x, grad_weight, None


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _inner(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        call(
            "parakit_swiglu_gradients",
            gate,
            up,
            in_layout_of(grad, gate),
            gate.numel(),
            grad_gate,
            grad_up,
            None,
        )
        return grad_gate, grad_up


class _SwiGluDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        return nn.functional.linear(_inner(gate, up), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, up, weight = ctx.saved_tensors
        inner, grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(gate), torch.empty_like(up)
        rows = grad.reshape(-1, len(weight))  # (N, D)
        grad_inner = rows @ weight  # (N, F)
        call("parakit_swiglu_gradients", gate, up, grad_inner, gate.numel(), grad_gate, grad_up, inner)
        return grad_gate, grad_up, rows.T @ inner.view(len(rows), -1)


def _inner(gate: Tensor, up: Tensor) -> Tensor:
    inner = torch.empty_like(gate)
    call("parakit_swiglu", gate, up, gate.numel(), inner)
    return inner


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin, backward=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad = grad if grad.stride(-1) == 1 else grad.contiguous()
        cos, sin = ctx.saved_tensors
        return _rotate(grad, cos, sin, backward=True), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, backward: bool) -> Tensor:
    if not (has_dense_rows(x)):
        x = x.contiguous()
    result = torch.empty_like(x)
    call("parakit_rotate", _heads(x, cos), x, cos, sin, result, int(backward))
    return result


def _heads(x: Tensor, cos: Tensor) -> Any:
    """`Heads` of `csrc/training.h`."""
    return (c_int64 * 8)(*x.shape, *x.stride()[:3], cos.stride(0) if cos.ndim == 4 else 0)


class _NormedAndRotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
        result, inverse = torch.empty_like(x), x.new_empty(x.numel() // x.shape[3])
        call("parakit_norm_and_rotate", _heads(x, cos), x, weight, eps, cos, sin, result, inverse)
        ctx.save_for_backward(x, weight, cos, sin, inverse)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, cos, sin, inverse = ctx.saved_tensors
        grad, grad_x = in_layout_of(grad, x), torch.empty_like(x)
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        inputs = (grad, x, weight, cos, sin, inverse)
        call("parakit_norm_and_rotate_gradients", _heads(x, cos), *inputs, grad_x, grad_weight)
        return grad_x, grad_weight, None, None, None
