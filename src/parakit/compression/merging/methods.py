"""The equations of merging, on one tensor of each model, in float64.

A task vector is what tuning changed: tau = model - base. Task arithmetic (Ilharco et al. 2023): base + scale * sum of
w tau. TIES (Yadav et al. 2023) and DARE (Yu et al. 2023) first make task vectors sparse, so that they disturb each other
less. SLERP (Shoemake 1985) goes from one model to the other along the arc between their directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parakit.common.seeds import derive_seed
from parakit.compression.merging.config import (
    DareMerge,
    LinearMerge,
    MergeMethod,
    SlerpMerge,
    TiesMerge,
)

_PARALLEL = 1 - 1e-6  # cosine beyond which an arc is a straight line, whose sines would be divided by 0


def merge_tensors(method: MergeMethod, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:
    """One merged tensor, in float64, of the same tensor of each model; `name` seeds what DARE drops. `base` for the methods
    that have one.
    """
    exact = [tensor.detach().double() for tensor in tensors]
    if isinstance(method, LinearMerge):
        weights = method.weights or (1.0,) * len(exact)
        return weighted_sum(exact, [weight / sum(weights) for weight in weights])
    if isinstance(method, SlerpMerge):
        return slerp(exact[0], exact[1], method.t)
    assert base is not None
    start = base.detach().double()
    weights = method.weights or (1.0,) * len(exact)
    vectors = [tensor - start for tensor in exact]
    if isinstance(method, TiesMerge):
        merged = elected_mean([trimmed(vector, method.density) for vector in vectors], weights)
    elif isinstance(method, DareMerge):
        kept = [
            dropped(vector, method.density, derive_seed(method.seed, "dare", name, i))
            for i, vector in enumerate(vectors)
        ]
        merged = elected_mean(kept, weights) if method.elect_signs else weighted_sum(kept, weights)
    else:
        merged = weighted_sum(vectors, weights)
    return start + method.scale * merged


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum of w_i x_i."""
    total = torch.zeros_like(tensors[0])
    for tensor, weight in zip(tensors, weights, strict=True):
        total += weight * tensor
    return total


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """(sin((1 - t) a) x + sin(t a) y) / sin(a), a the angle between x and y; the mean where they are parallel, opposite or
    zero.
    """
    norms = first.norm() * second.norm()
    cosine = float((first * second).sum() / norms) if norms > 0 else 1.0
    if abs(cosine) > _PARALLEL:
        return (1 - t) * first + t * second
    angle = torch.tensor(cosine, dtype=torch.float64).arccos()
    return (((1 - t) * angle).sin() * first + (t * angle).sin() * second) / angle.sin()


def trimmed(vector: Tensor, density: float) -> Tensor:
    """The largest values by magnitude, `density` of all (one at least), the others 0; of equal ones all stay."""
    n_kept = max(1, round(density * vector.numel()))
    magnitudes = vector.abs()
    limit = magnitudes.flatten().kthvalue(vector.numel() - n_kept + 1).values
    return torch.where(magnitudes >= limit, vector, 0)


def dropped(vector: Tensor, density: float, seed: int) -> Tensor:
    """Each value stays with probability `density`, divided by it, so that the expected value is the same."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    kept = torch.rand(vector.shape, generator=generator, dtype=torch.float64) < density
    return torch.where(kept.to(vector.device), vector / density, 0)


def elected_mean(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """For each parameter the sign of the weighted sum, and the weighted mean of the values that have it."""
    weighted = [weight * vector for weight, vector in zip(weights, vectors, strict=True)]
    sign = torch.stack(weighted).sum(0).sign()
    total, divisor = torch.zeros_like(sign), torch.zeros_like(sign)
    for one, weight in zip(weighted, weights, strict=True):
        agrees = (one.sign() == sign) & (sign != 0)
        total += torch.where(agrees, one, 0)
        divisor += agrees * abs(weight)
    return torch.where(divisor > 0, total / divisor.clamp(min=1e-300), 0)
