"""Tune a rounded model on the original's probabilities: the scales of all groups, the norms and, by choice, the codes.

Every scale is multiplied by a gain, and so is every weight of a norm. AdamW minimizes KL(original || quantized) on
calibration windows, as in the last phase of EfficientQAT (Chen et al. 2024). Zero points stay as a method chose them. Codes
are tuned as numbers that are rounded in the forward pass, and gradients pass the rounding unchanged (Bengio et al. 2013).
They begin at the original weight, but not so far from the code that a method chose that another code would result. A part of
the windows is held out: where the result is no better on them, everything stays as it was.

Shapes: O outputs, G groups of a row, S inputs of a group, T tokens of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from parakit.compression.quantization.measurement import OriginalOutputs
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantizedTensor
from parakit.model.quantized.rounding import pack_nibbles, scale_dtype, store_scale, unpack_nibbles
from parakit.model.quantized.scheme import QuantScheme

LEARNING_RATES = {
    4: 2e-3,
    8: 2e-4,
}  # of the logarithm of a gain, by bits: what is left to gain follows the steps
CODE_LEARNING_RATE = 5e-3  # of a code, in steps of the scale
TUNED_WIDTH = (
    96  # of the model that these rates were chosen for; wider ones get lower rates, as hidden matrices do
)
FREEDOM = 0.4  # a code begins at most so far from its integer, in steps
HELD_OUT = 8  # every so many windows


class TunedMatrix(nn.Module):
    """A quantized matrix whose scales have gains, `log_gain` (O, G, 1). With the original `weight` (O, I) its codes are tuned
    as well, `codes` (O, G, S) relative to their zero points.
    """

    def __init__(self, tensor: QuantizedTensor, weight: Tensor | None = None) -> None:
        super().__init__()
        codes = tensor.qweight if tensor.scheme.bits == 8 else unpack_nibbles(tensor.qweight).to(torch.int8)
        steps = codes.unflatten(1, (tensor.scales.shape[1], -1))  # (O, G, S)
        self.zeros: Tensor | int = 0
        self.low, self.high = (-127, 127) if tensor.scheme.bits == 8 else (0, 15)
        if tensor.scheme.bits == 4:
            self.zeros = 8 if tensor.zeros is None else tensor.zeros[..., None].to(torch.int8)
            steps = steps - self.zeros
        self.tensor, self.steps, self.scales = tensor, steps, tensor.scales.float()[..., None]
        self.log_gain = nn.Parameter(torch.zeros_like(self.scales))
        self.codes: nn.Parameter | None = None
        if weight is not None:
            exact = weight.detach().float().unflatten(1, (self.scales.shape[1], -1)) / self.scales
            self.codes = nn.Parameter(steps + (exact - steps).clamp_(-FREEDOM, FREEDOM))

    def forward(self) -> Tensor:
        """The matrix (O, I)."""
        scales = self.scales * self.log_gain.exp()
        if self.codes is None:
            return (self.steps * scales).flatten(1)
        rounded: Tensor = _RoundedProduct.apply(
            self.codes, scales, self.low - self.zeros, self.high - self.zeros
        )
        return rounded.flatten(1)

    def tuned(self) -> QuantizedTensor:
        """The codes and scales as they are now, rounded as they are stored."""
        scales = _closest_scale(self.scales * self.log_gain.detach().exp(), self.tensor.scheme)
        found = replace(self.tensor, scales=scales[..., 0].to(scale_dtype(self.tensor.scheme)))
        if self.codes is None:
            return found
        codes = (self.codes.detach().round() + self.zeros).clamp_(self.low, self.high).flatten(1)
        if self.tensor.scheme.bits == 8:
            return replace(found, qweight=codes.to(torch.int8))
        return replace(found, qweight=pack_nibbles(codes.to(torch.uint8)))


def windows_needed(n_steps: int) -> int:
    """Of so many steps, with those held out."""
    return n_steps + n_steps // HELD_OUT + 1 if n_steps else 0


def tune_rounding(
    model: LanguageModel,
    tensors: Mapping[str, QuantizedTensor],
    outputs: OriginalOutputs,
    n_steps: int,
    done: Callable[[float], object] = lambda kl: None,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[str, QuantizedTensor]:
    """The tensors with tuned scales and, where the original's `weights` are given by the same names, tuned codes; the norms of
    `model` are changed. `outputs`: of the original model, on the windows to tune on, one a step; `done` gets each step's KL.
    """
    matrices = {
        f"{name}.weight": TunedMatrix(tensor, (weights or {}).get(name)) for name, tensor in tensors.items()
    }
    norms = {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.ndim == 1 and name.endswith("norm.weight")
    }
    gains = {name: nn.Parameter(torch.zeros_like(weight)) for name, weight in norms.items()}
    windows = outputs.windows.split(1)
    held_out = range(0, len(windows), HELD_OUT)
    trained = [i for i in range(len(windows)) if i not in held_out] or list(held_out)

    def divergence(window: int) -> Tensor:
        values = {name: matrix() for name, matrix in matrices.items()}
        values |= {name: norms[name] * gain.exp() for name, gain in gains.items()}
        return outputs.divergence(model, window, functional_call(model, values, (windows[window],))[0])

    def mean_divergence() -> float:
        with torch.no_grad():
            return math.fsum(float(divergence(window)) for window in held_out) / len(held_out)

    before = mean_divergence()
    groups = _parameter_groups(list(matrices.values()), list(gains.values()), model.config.d_model)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    model.requires_grad_(False)
    for step in range(n_steps):
        loss = divergence(trained[step % len(trained)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        done(float(loss.detach()))
    if n_steps and mean_divergence() >= before:
        return dict(tensors)
    with torch.no_grad():
        for name, gain in gains.items():
            model.get_parameter(name).copy_(norms[name] * gain.exp())
    return {name.removesuffix(".weight"): matrix.tuned() for name, matrix in matrices.items()}


def _parameter_groups(
    matrices: Sequence[TunedMatrix], norms: list[nn.Parameter], d_model: int
) -> list[dict[str, Any]]:
    """What is tuned, with its rate: AdamW moves all weights of a sum alike, so rates fall with its width (Yang et al. 2022)."""
    width = min(1.0, TUNED_WIDTH / d_model)
    rates = {bits: rate * width for bits, rate in LEARNING_RATES.items()}
    groups: list[dict[str, Any]] = [
        {"params": [matrix.log_gain], "lr": rates[matrix.tensor.scheme.bits]} for matrix in matrices
    ]
    groups.append({"params": norms, "lr": max(group["lr"] for group in groups)})
    codes = [matrix.codes for matrix in matrices if matrix.codes is not None]
    return [*groups, {"params": codes, "lr": CODE_LEARNING_RATE * width}]


class _RoundedProduct(torch.autograd.Function):
    """round(codes) within low..high, times scales; gradients pass the rounding and the limits."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, scales: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.limits = low, high
        return codes.round().clamp(low, high).mul_(scales)  # type: ignore[arg-type]  # a limit may be a number

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        codes, scales = ctx.saved_tensors
        low, high = ctx.limits
        of_scales = codes.round().clamp_(low, high).mul_(gradient).sum(-1, keepdim=True)
        return gradient * scales, of_scales, None, None


def _closest_scale(scale: Tensor, scheme: QuantScheme) -> Tensor:
    """The stored scale closest to `scale`; `store_scale` gives the next larger one."""
    larger = store_scale(scale, scheme)
    below = store_scale((2 * scale - larger).clamp(min=0), scheme)  # as far on the other side
    return torch.where(scale - below < larger - scale, below, larger)
