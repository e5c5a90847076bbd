"""AdamW (Loshchilov and Hutter 2019, algorithm 2), every parameter of a group updated in one call.

`torch.optim.AdamW` computes the same and is the reference in the tests. Building one imports PyTorch's compiler,
two to three seconds that a short run on a CPU does not get back. Of a weight that is spread over processes each updates
its part. Left out: AMSGrad, maximising, complex numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from parakit.training.parallel.engine import local

FUSED_ON = ("cpu", "cuda")


class AdamW:
    """One group of parameters with one rate and one decay. `learning_rate` may be changed between steps. Without
    `is_decoupled` the decay is added to the gradient, as in Adam (Kingma and Ba 2015).
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        is_decoupled: bool = True,
    ) -> None:
        self.named = list(named_parameters)
        self.is_decoupled = is_decoupled
        self.learning_rate, self.betas = learning_rate, betas
        self.weight_decay, self.eps = weight_decay, eps
        self.n_steps = 0
        self.first = [torch.zeros_like(p) for _, p in self.named]
        self.second = [torch.zeros_like(p) for _, p in self.named]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        if not self.named:
            return
        parameters = [local(p) for _, p in self.named]
        gradients = [local(gradient_of(name, p)) for name, p in self.named]
        if not self.is_decoupled and self.weight_decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=self.weight_decay))
        self.n_steps += 1
        if all(p.device.type in FUSED_ON for p in parameters):
            self._step_fused(parameters, gradients)
        else:
            self._step_by_lists(parameters, gradients)

    def _step_fused(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """One pass over memory, by the kernel beneath `torch.optim.AdamW(fused=True)`."""
        count = torch.tensor(float(self.n_steps), device=parameters[0].device)
        torch._fused_adamw_(
            parameters,
            gradients,
            [local(moment) for moment in self.first],
            [local(moment) for moment in self.second],
            [],
            [count] * len(parameters),
            lr=self.learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay if self.is_decoupled else 0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    def _step_by_lists(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        beta1, beta2 = self.betas
        first, second = [local(moment) for moment in self.first], [local(moment) for moment in self.second]
        if self.weight_decay and self.is_decoupled:
            torch._foreach_mul_(parameters, 1 - self.learning_rate * self.weight_decay)
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        roots = second_moment_roots(second, gradients, beta2, self.n_steps, self.eps)
        step_size = self.learning_rate / (1 - beta1**self.n_steps)
        torch._foreach_addcdiv_(parameters, first, roots, -step_size)

    def state_tensors(self) -> dict[str, Tensor]:
        """Both moments of every parameter, by its name, and the number of steps."""
        tensors = {"adamw.n_steps": torch.tensor(self.n_steps)} if self.named else {}
        for (name, _), first, second in zip(self.named, self.first, self.second, strict=True):
            tensors |= {f"{name}.first_moment": first, f"{name}.second_moment": second}
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `state_tensors` returned."""
        for (name, _), first, second in zip(self.named, self.first, self.second, strict=True):
            first.copy_(tensors[f"{name}.first_moment"])
            second.copy_(tensors[f"{name}.second_moment"])
        if self.named:
            self.n_steps = int(tensors["adamw.n_steps"])


def gradient_of(name: str, parameter: Tensor) -> Tensor:
    """The gradient of a parameter, which has one."""
    assert parameter.grad is not None, f"{name} has no gradient, and reached the optimizer"
    return parameter.grad


def second_moment_roots(
    second: list[Tensor], gradients: list[Tensor], beta2: float, n_steps: int, eps: float
) -> list[Tensor]:
    """Moves the second moments on to `gradients`, of step `n_steps` (1 is the first); returns the roots of the moments without
    their bias towards 0, plus `eps`.
    """
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
    roots = list(torch._foreach_sqrt(second))
    torch._foreach_div_(roots, (1 - beta2**n_steps) ** 0.5)
    torch._foreach_add_(roots, eps)
    return roots
