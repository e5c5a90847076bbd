"""How much the model's predictions react to a matrix: the Fisher information, from one backward pass over calibration text.

A small change D of a matrix moves the probabilities by KL = 1/2 E[(sum D * G)^2], where G is the gradient of log p(y) and each
token y is drawn from the model's own probabilities (Kunstner et al. 2019, "Limitations of the empirical Fisher", eq. 3). For
rounding errors, which are independent, that is 1/2 sum D^2 E[G^2]: `Fisher.kl`, for every scheme of a matrix at once.

Shapes: N windows, T tokens, O outputs, I inputs, G groups of `GROUP` inputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parakit.common.seeds import rng
from parakit.model.heads import LanguageModel

GROUP = 32


@dataclass(frozen=True)
class Fisher:
    """`squares`: by matrix, E[G^2] for a token, its mean in each group of inputs (O, G)."""

    squares: dict[str, Tensor]

    def rows(self, name: str, n: int) -> Tensor:
        """The `n` rows (R,) of a matrix that matter most, or all: of an embedding few have nearly all the weight."""
        of_rows = self.squares[name].sum(1)
        return of_rows.topk(min(n, len(of_rows))).indices

    def kl(self, name: str, error: Tensor, rows: Tensor) -> float:
        """Nats a token that the predictions move by where matrix `name` has the rounding error (R, I) in `rows` (R,), and the
        like in all others.
        """
        squares = self.squares[name]
        some = squares[rows]
        groups = error.square().unflatten(1, (squares.shape[1], -1)).sum(-1)
        rest = float(squares.sum() / some.sum().clamp(min=torch.finfo(torch.float32).tiny))
        return 0.5 * rest * float((groups * some).sum(dtype=torch.float64))


def measure_fisher(model: LanguageModel, windows: Tensor, names: Collection[str], seed: int = 0) -> Fisher:
    """Of the matrices `names`, on `windows` (N, T). Holds the gradients of all matrices at once; the model stays as it is."""
    sums: dict[str, Tensor] = {}
    with only_gradients_of(model, names) as matrices:
        for number, row in enumerate(windows.split(1)):
            log_p = model(row)[0].float().log_softmax(-1)  # (T, V)
            generator = torch.Generator().manual_seed(int(rng(seed, "fisher", number).integers(2**31)))
            drawn = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
            gradients = torch.autograd.grad(
                log_p.gather(1, drawn).sum(), list(matrices.values()), allow_unused=True
            )
            for (name, matrix), gradient in zip(matrices.items(), gradients, strict=True):
                groups = matrix.shape[1] // GROUP if matrix.shape[1] % GROUP == 0 else 1
                square = torch.zeros(len(matrix), groups)
                if gradient is not None:
                    square = gradient.square().unflatten(1, (groups, -1)).mean(-1)
                sums[name] = sums[name].add_(square) if name in sums else square
    return Fisher({name: total / windows.numel() for name, total in sums.items()})


@contextlib.contextmanager
def only_gradients_of(model: LanguageModel, names: Collection[str]) -> Iterator[dict[str, nn.Parameter]]:
    """The matrices `names`, which alone require gradients inside the block."""
    matrices = {name: model.get_parameter(f"{name}.weight") for name in names}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    for matrix in matrices.values():
        matrix.requires_grad_(True)
    try:
        yield matrices
    finally:
        for parameter, one in zip(model.parameters(), wanted, strict=True):
            parameter.requires_grad_(one)
