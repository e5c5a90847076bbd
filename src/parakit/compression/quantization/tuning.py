"""Tune what rounding leaves free: the scales of all groups and the norms, on the original model's probabilities.

The codes and zero points stay as a method chose them; every scale is multiplied by a gain, and so is every weight of a norm.
AdamW minimizes KL(original || quantized) on calibration windows, as in the last phase of EfficientQAT (Chen et al. 2024). A
part of the windows is held out: where the result is no better on them, everything stays as it was.

Shapes: O outputs, G groups of a row, S inputs of a group, T tokens of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from parakit.compression.quantization.measurement import OriginalOutputs, log_probabilities
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantizedTensor
from parakit.model.quantized.rounding import scale_dtype, store_scale, unpack_nibbles
from parakit.model.quantized.scheme import QuantScheme

LEARNING_RATE = 2e-3  # of the logarithm of a gain
HELD_OUT = 8  # every so many windows


class TunedMatrix(nn.Module):
    """A quantized matrix whose scales have gains, `log_gain` (O, G, 1)."""

    def __init__(self, tensor: QuantizedTensor) -> None:
        super().__init__()
        codes = tensor.qweight if tensor.scheme.bits == 8 else unpack_nibbles(tensor.qweight).to(torch.int8)
        steps = codes.unflatten(1, (tensor.scales.shape[1], -1))  # (O, G, S)
        if tensor.scheme.bits == 4:
            steps = steps - (8 if tensor.zeros is None else tensor.zeros[..., None].to(torch.int8))
        self.tensor, self.steps, self.scales = tensor, steps, tensor.scales.float()[..., None]
        self.log_gain = nn.Parameter(torch.zeros_like(self.scales))

    def forward(self) -> Tensor:
        """The matrix (O, I)."""
        return (self.steps * (self.scales * self.log_gain.exp())).flatten(1)

    def tuned(self) -> QuantizedTensor:
        """The same codes with the scales as they are now, rounded as they are stored."""
        scales = _closest_scale(self.scales * self.log_gain.detach().exp(), self.tensor.scheme)
        return replace(self.tensor, scales=scales[..., 0].to(scale_dtype(self.tensor.scheme)))


def tune_scales(
    model: LanguageModel,
    tensors: Mapping[str, QuantizedTensor],
    outputs: OriginalOutputs,
    n_steps: int,
    done: Callable[[float], object] = lambda kl: None,
) -> dict[str, QuantizedTensor]:
    """The tensors with tuned scales; the norms of `model` are changed. `outputs`: of the original model, on the windows to
    tune on, one a step; `done` gets each step's KL.
    """
    matrices = {f"{name}.weight": TunedMatrix(tensor) for name, tensor in tensors.items()}
    norms = {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.ndim == 1 and name.endswith("norm.weight")
    }
    gains = {name: nn.Parameter(torch.zeros_like(weight)) for name, weight in norms.items()}
    originals = [x.clone() for x in torch.cat(outputs.inputs).split(1)]  # (1, T, D) of each window
    windows = outputs.windows.split(1)
    held_out = range(0, len(windows), HELD_OUT)
    trained = [i for i in range(len(windows)) if i not in held_out] or list(held_out)

    def divergence(window: int) -> Tensor:
        values = {name: matrix() for name, matrix in matrices.items()}
        values |= {name: norms[name] * gain.exp() for name, gain in gains.items()}
        q = functional_call(model, values, (windows[window],))[0].float().log_softmax(-1)
        with torch.no_grad():
            p = log_probabilities(model, outputs.head, originals[window][0])
        return (p.exp() * (p - q)).sum(-1).mean()

    def mean_divergence() -> float:
        with torch.no_grad():
            return math.fsum(float(divergence(window)) for window in held_out) / len(held_out)

    before = mean_divergence()
    parameters = [matrix.log_gain for matrix in matrices.values()] + list(gains.values())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
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


def _closest_scale(scale: Tensor, scheme: QuantScheme) -> Tensor:
    """The stored scale closest to `scale`; `store_scale` gives the next larger one."""
    larger = store_scale(scale, scheme)
    below = store_scale((2 * scale - larger).clamp(min=0), scheme)  # as far on the other side
    return torch.where(scale - below < larger - scale, below, larger)
