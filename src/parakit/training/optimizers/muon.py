"""Muon: momentum whose update is made orthogonal (Jordan et al. 2024, "Muon: an optimizer for hidden
layers").

A matrix's step is the nearest semi-orthogonal matrix to its Nesterov momentum, by five Newton-Schulz
iterations. `torch.optim.Muon` does the same one matrix at a time and in bfloat16; here small matrices of equal shape are
multiplied as one batch in their own precision, which is faster on a CPU. Experts are a stack of matrices already.

Shapes: N matrices of one shape, R rows, C columns, E experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

# Coefficients of the quintic iteration (Jordan et al. 2024): steepest at zero while singular values stay
# near one.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# Numbers that are made orthogonal at a time, of one weight at least: an update holds several copies of them, which for all
# matrices of a shape together is more than a large model's gradients, and is no faster.
STACKED_NUMBERS = 2**22


def orthogonalize(x: Tensor, n_iterations: int = 5) -> Tensor:
    """Bring the singular values of a batch of matrices (N, R, C), R <= C, close to one."""
    a, b, c = NEWTON_SCHULZ
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(n_iterations):
        gram = x @ x.mT  # (N, R, R)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


class Muon:
    """The optimizer for weights (R, C), or stacks of them (E, R, C). `learning_rate` may be changed between
    steps.
    """

    def __init__(
        self,
        named_weights: Iterable[tuple[str, Tensor]],
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.groups: dict[tuple[int, int], list[tuple[str, Tensor]]] = {}
        for name, weight in named_weights:
            short, long = sorted(weight.shape[-2:])
            self.groups.setdefault((short, long), []).append((name, weight))
        self.buffers = {
            shape: torch.zeros(sum(_n_matrices(w) for _, w in named), *shape, device=named[0][1].device)
            for shape, named in self.groups.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update every weight from its gradient."""
        for shape, named in self.groups.items():
            first = 0
            for weights in _stacks([weight for _, weight in named]):
                n = sum(map(_n_matrices, weights))
                self._update(weights, self.buffers[shape][first : first + n])
                first += n

    def _update(self, weights: list[Tensor], buffer: Tensor) -> None:
        """Update some weights of one shape, whose momentum (N, R, C) is `buffer`."""
        gradients = torch.cat([_wide(weight.grad).reshape(-1, *buffer.shape[1:]) for weight in weights])
        gradients = gradients.float()
        buffer.lerp_(gradients, 1 - self.momentum)
        updates = orthogonalize(gradients.lerp_(buffer, self.momentum))
        for weight, update in zip(weights, updates.split([*map(_n_matrices, weights)]), strict=True):
            rows, columns = weight.shape[-2:]
            step_size = self.learning_rate * max(1.0, rows / columns) ** 0.5
            if self.weight_decay:
                weight.mul_(1 - self.learning_rate * self.weight_decay)
            update = update if rows <= columns else update.mT
            weight.add_(update.reshape(weight.shape), alpha=-step_size)

    def state_tensors(self) -> dict[str, Tensor]:
        """The momentum of every weight by name, in the weight's shape."""
        tensors = {}
        for shape, buffer in self.buffers.items():
            parts = buffer.split([_n_matrices(weight) for _, weight in self.groups[shape]])
            for (name, weight), part in zip(self.groups[shape], parts, strict=True):
                part = part if weight.ndim == 3 else part[0]
                tensors[f"{name}.momentum"] = part if weight.shape[-2] <= weight.shape[-1] else part.mT
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `state_tensors` returned."""
        for name, momentum in self.state_tensors().items():
            momentum.copy_(tensors[name])


def _stacks(weights: list[Tensor]) -> Iterator[list[Tensor]]:
    """The weights of one shape, in order, as many at a time as `STACKED_NUMBERS` allows."""
    stack: list[Tensor] = []
    for weight in weights:
        if stack and sum(one.numel() for one in (*stack, weight)) > STACKED_NUMBERS:
            yield stack
            stack = []
        stack.append(weight)
    yield stack


def _n_matrices(weight: Tensor) -> int:
    return len(weight) if weight.ndim == 3 else 1


def _wide(matrix: Tensor | None) -> Tensor:
    """The matrix, or each of a stack, transposed where rows > columns."""
    assert matrix is not None, "a weight without gradient reached the optimizer"
    return matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT
