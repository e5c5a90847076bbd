"""How a step moves the weights: the ratio of its update to them, and the noise of its gradient.

The gradient noise scale (McCandlish et al. 2018, "An empirical model of large-batch training", appendix A.1) is the batch, in
counted tokens or examples, at which the noise of a gradient is as large as the gradient: far below it a larger batch saves
steps, far above it costs tokens. It compares the gradients of a step's parts with that of the whole, so a step needs two
parts at least: micro-batches. Both take a copy of the weights or gradients, at the steps that are measured only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from parakit.training.parallel.engine import local

SMOOTHING = 0.9  # of the two sums whose ratio is the noise scale: one step's estimate is noisy


@dataclass
class GradientNoise:
    """Estimates over the measured steps of a run: `noise`, the trace of the gradient's covariance for one counted token or
    example, and `signal`, the squared norm of the true gradient.
    """

    noise: float = 0.0
    signal: float = 0.0
    weight: float = 0.0

    def add(self, parts: Sequence[tuple[float, int]], whole: tuple[float, int]) -> None:
        """Squared norm and count of each part's mean gradient, and of the whole's."""
        counted = [(square, count) for square, count in parts if count]
        if len(counted) < 2:
            return
        inverse = sum(1 / count for _, count in counted) / len(counted)
        small, big = sum(square for square, _ in counted) / len(counted), whole[0]
        noise = (small - big) / (inverse - 1 / whole[1])
        signal = big - noise / whole[1]
        self.noise = SMOOTHING * self.noise + (1 - SMOOTHING) * noise
        self.signal = SMOOTHING * self.signal + (1 - SMOOTHING) * signal
        self.weight = SMOOTHING * self.weight + (1 - SMOOTHING)

    @property
    def scale(self) -> float | None:
        """The noise scale; None before there is one, or where the estimates are not positive."""
        return self.noise / self.signal if self.weight and self.signal > 0 and self.noise > 0 else None


@dataclass
class Dynamics:
    """Measures one step in every `every`. `figures` are those of the last measured step, empty of the others."""

    every: int
    parameters: Sequence[Tensor]
    noise: GradientNoise = field(default_factory=GradientNoise)
    figures: dict[str, float] = field(default_factory=dict)
    parts: list[tuple[float, int]] = field(default_factory=list)
    _before: list[Tensor] = field(default_factory=list)
    _gradients: dict[int, Tensor] = field(default_factory=dict)

    def begins(self, step: int) -> bool:
        """Whether `step` (0 is the first) is measured; forgets the figures of the step before."""
        self.figures, self.parts, self._gradients = {}, [], {}
        return (step + 1) % self.every == 0

    @torch.no_grad()
    def add_part(self, n_part: int, n_all: int, scale: float) -> None:
        """A micro-batch of `n_part` of `n_all` counted tokens has been added to the gradients, which are `scale` times
        those of the mean loss over all.
        """
        now = {i: local(p.grad) for i, p in enumerate(self.parameters) if p.grad is not None}
        square = 0.0
        for i, gradient in now.items():
            added = gradient - self._gradients[i] if i in self._gradients else gradient
            square += float(added.norm(dtype=torch.float64)) ** 2
        self._gradients = {i: gradient.clone() for i, gradient in now.items()}
        if n_part:
            self.parts.append((square * (n_all / (n_part * scale)) ** 2, n_part))

    @torch.no_grad()
    def before_update(self, grad_norm: float, n_all: int) -> None:
        """The gradients are complete, with the norm `grad_norm` before clipping."""
        self._gradients = {}
        self.noise.add(self.parts, (grad_norm**2, n_all))
        if (scale := self.noise.scale) is not None:
            self.figures["gradient_noise_scale"] = scale
        self._before = [local(p).detach().clone() for p in self.parameters]

    @torch.no_grad()
    def after_update(self) -> None:
        """The step is taken."""
        moved = held = 0.0
        for parameter, old in zip(self.parameters, self._before, strict=True):
            moved += float((local(parameter) - old).norm(dtype=torch.float64)) ** 2
            held += float(old.norm(dtype=torch.float64)) ** 2
        self._before = []
        if held:
            self.figures["update_ratio"] = (moved / held) ** 0.5
