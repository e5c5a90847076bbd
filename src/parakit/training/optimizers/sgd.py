"""Stochastic gradient descent with momentum (Sutskever et al. 2013, in the form of `torch.optim.SGD`), one number of state
for each parameter. Left out: dampening and Nesterov's form.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from parakit.training.optimizers.adamw import gradient_of
from parakit.training.parallel.engine import local


class SGD:
    """One group of parameters with one rate and one decay, which is added to the gradient. `learning_rate` may be changed
    between steps.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        learning_rate: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        self.named = list(named_parameters)
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.buffers = [torch.zeros_like(p) for _, p in self.named]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        if not self.named:
            return
        parameters = [local(p) for _, p in self.named]
        buffers = [local(buffer) for buffer in self.buffers]
        torch._foreach_mul_(buffers, self.momentum)
        torch._foreach_add_(buffers, [local(gradient_of(name, p)) for name, p in self.named])
        if self.weight_decay:
            torch._foreach_add_(buffers, parameters, alpha=self.weight_decay)
        torch._foreach_add_(parameters, buffers, alpha=-self.learning_rate)

    def state_tensors(self) -> dict[str, Tensor]:
        """The momentum of every parameter, by its name."""
        return {
            f"{name}.momentum": buffer for (name, _), buffer in zip(self.named, self.buffers, strict=True)
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `state_tensors` returned."""
        for name, buffer in self.state_tensors().items():
            local(buffer).copy_(local(tensors[name]))
