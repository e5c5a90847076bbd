"""Schedule-free AdamW (Defazio et al. 2024, "The road less scheduled", algorithm 1): no decay of the learning rate, because
the weights that are used are an average over the steps.

Three points: z takes the steps, x is the average of the z's, weighted by their squared rates, and gradients are computed at
y = (1 - beta) z + beta x. The parameters hold y while the model trains, and x inside `averaged` and after `finish`; z is
state, and x follows from y and z. Left out: weighting by the step's number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from parakit.training.optimizers.adamw import gradient_of, second_moment_roots
from parakit.training.parallel.engine import local


class ScheduleFree:
    """One group of parameters with one rate and one decay. `learning_rate` may be changed between steps, as warm-up does.
    `betas`: of the interpolation, and of the second moment.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.named = list(named_parameters)
        self.learning_rate, self.betas = learning_rate, betas
        self.weight_decay, self.eps = weight_decay, eps
        self.n_steps, self.weight_sum = 0, 0.0
        self.iterates = [p.detach().clone() for _, p in self.named]  # z
        self.second = [torch.zeros_like(p) for _, p in self.named]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        if not self.named:
            return
        y = [local(p) for _, p in self.named]
        z, second = [local(one) for one in self.iterates], [local(one) for one in self.second]
        gradients = [local(gradient_of(name, p)) for name, p in self.named]
        beta1, beta2 = self.betas
        self.n_steps += 1
        rate = self.learning_rate
        self.weight_sum += rate**2
        share = rate**2 / self.weight_sum if self.weight_sum else 0.0
        roots = second_moment_roots(second, gradients, beta2, self.n_steps, self.eps)
        updates = torch._foreach_div(gradients, roots)
        if self.weight_decay:
            torch._foreach_add_(updates, y, alpha=self.weight_decay)
        # x' = (1 - share) x + share z' and y' = (1 - beta) z' + beta x', with x out of y and z:
        torch._foreach_lerp_(y, z, share)
        torch._foreach_add_(y, updates, alpha=-rate * (1 - beta1 + beta1 * share))
        torch._foreach_add_(z, updates, alpha=-rate)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters are the average during the block, and afterwards bit for bit as before."""
        before = [local(p).detach().clone() for _, p in self.named]
        self.finish()
        try:
            yield
        finally:
            with torch.no_grad():
                for (_, p), value in zip(self.named, before, strict=True):
                    local(p).copy_(value)

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the average in the parameters: x = z + (y - z) / beta. No step can follow."""
        if self.named and self.betas[0]:
            y, z = [local(p) for _, p in self.named], [local(one) for one in self.iterates]
            torch._foreach_lerp_(y, z, 1 - 1 / self.betas[0])

    def state_tensors(self) -> dict[str, Tensor]:
        """z and the second moment of every parameter, by its name, and what the average needs."""
        counts = torch.tensor([self.n_steps, self.weight_sum], dtype=torch.float64)
        tensors = {self._counts_name: counts} if self.named else {}
        for (name, _), iterate, second in zip(self.named, self.iterates, self.second, strict=True):
            tensors |= {f"{name}.iterate": iterate, f"{name}.second_moment": second}
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `state_tensors` returned."""
        for (name, _), iterate, second in zip(self.named, self.iterates, self.second, strict=True):
            local(iterate).copy_(local(tensors[f"{name}.iterate"]))
            local(second).copy_(local(tensors[f"{name}.second_moment"]))
        if self.named:
            n_steps, self.weight_sum = tensors[self._counts_name].tolist()
            self.n_steps = int(n_steps)

    @property
    def _counts_name(self) -> str:
        """Of this group: groups differ in their rates."""
        return f"{self.named[0][0]}.counts"
