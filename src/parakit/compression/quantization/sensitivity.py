"""How much each matrix matters, and the bits and groups that follow under a size budget.

Every scheme of every matrix is rounded, and one backward pass tells what its errors cost (`fisher`): an estimate of the KL when
that matrix alone is quantized. The schemes of a budget are chosen greedily: all begin with the smallest, and the matrix whose
KL falls most for each byte gets a larger one; divergences of single matrices add up well while they are small.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from parakit.common.errors import UserError
from parakit.compression.quantization.fisher import measure_fisher
from parakit.compression.quantization.plan import QuantizationPlan, plan_bytes, stored_together
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantScheme, dequantize, quantizable, quantize_tensor
from parakit.model.quantized.scheme import Bits, GroupSize

ROUNDED_WEIGHTS = 1 << 17
"""Of a matrix, in the rows that matter most; the others are taken to err alike."""


@dataclass(frozen=True)
class Sensitivity:
    """One matrix, rounded alone with `bits`: KL in nats a token, and its size. `chosen`: these bits were taken."""

    name: str
    bits: Bits
    kl: float
    n_bytes: int
    n_weights: int
    chosen: bool = True
    quant_group_size: GroupSize | None = None


def measure_sensitivity(
    model: LanguageModel,
    windows: Tensor,
    plans: Sequence[QuantizationPlan],
    search: bool,
    done: Callable[[str], object] = lambda name: None,
) -> list[list[Sensitivity]]:
    """The KL of each matrix with its scheme in each of `plans`, on `windows` (N, T), in the model's order. `search`: with
    scales of least error. Of large matrices the rows that matter most are rounded.
    """
    shapes = quantizable(model)
    fisher = measure_fisher(model, windows, plans[0].schemes)
    found: list[list[Sensitivity]] = [[] for _ in plans]
    for name in plans[0].schemes:
        weight = model.get_parameter(f"{name}.weight").detach()
        rows = fisher.rows(name, max(1, ROUNDED_WEIGHTS // weight.shape[1]))
        weight = weight[rows]
        measured: dict[QuantScheme, float] = {}
        for plan, same_plan in zip(plans, found, strict=True):
            scheme = plan.schemes[name]
            if scheme not in measured:
                error = dequantize(quantize_tensor(weight, scheme, search=search)) - weight
                measured[scheme] = fisher.kl(name, error, rows)
            same_plan.append(sensitivity_of(name, scheme, shapes[name], measured[scheme]))
        done(name)
    return found


def sensitivity_of(name: str, scheme: QuantScheme, shape: tuple[int, int], kl: float) -> Sensitivity:
    """Of a matrix with a scheme."""
    n_bytes, n_weights = scheme.n_bytes(shape), shape[0] * shape[1]
    return Sensitivity(name, scheme.bits, kl, n_bytes, n_weights, quant_group_size=scheme.quant_group_size)


def choose_schemes(
    model: LanguageModel,
    budget: int,
    plans: Sequence[QuantizationPlan],
    sensitivities: Sequence[Sequence[Sensitivity]],
) -> tuple[QuantizationPlan, list[Sensitivity]]:
    """The scheme of each matrix within `budget` bytes, and the sensitivities with which of them was chosen. `plans`: of the
    whole model, from the smallest on, each with its sensitivities. `UserError` where even the smallest is over the budget.
    """
    smallest = plan_bytes(model, plans[0].schemes)
    if smallest > budget:
        raise UserError(
            f"a size budget of {budget / 1e6:.1f} MB, and with 4 bits everywhere the weights need {smallest / 1e6:.1f} MB",
            "raise the budget, or distill a smaller model first",
        )
    left = budget - smallest
    by_name = [{one.name: one for one in each} for each in sensitivities]
    level = dict.fromkeys(_together(model, plans[0].schemes), 0)

    def step(names: tuple[str, ...], number: int) -> tuple[float, int]:
        """What a later scheme of some matrices gains in KL and costs in bytes."""
        now, then = by_name[level[names]], by_name[number]
        return (
            sum(now[name].kl - then[name].kl for name in names),
            sum(then[name].n_bytes - now[name].n_bytes for name in names),
        )

    while True:
        steps = {
            (names, number): step(names, number)
            for names, now in level.items()
            for number in range(now + 1, len(plans))
        }
        fitting = {
            one: gain / n_bytes for one, (gain, n_bytes) in steps.items() if gain > 0 and 0 < n_bytes <= left
        }
        if not fitting:
            break
        names, number = max(fitting, key=fitting.__getitem__)
        left -= steps[names, number][1]
        level[names] = number
    chosen = {name: number for names, number in level.items() for name in names}
    schemes = {name: plans[chosen[name]].schemes[name] for name in plans[0].schemes}
    report = [
        replace(one, chosen=number == chosen[one.name])
        for same in zip(*sensitivities, strict=True)
        for number, one in enumerate(same)
    ]
    return QuantizationPlan(schemes, plans[0].notes), report


def _together(model: LanguageModel, names: Collection[str]) -> list[tuple[str, ...]]:
    """All matrices; those that the model's folder stores as one (queries, keys and values of GPT-NeoX) get one scheme."""
    joined = [tuple(name for name in several if name in names) for several in stored_together(model)]
    alone = [name for name in names if not any(name in several for several in joined)]
    return [several for several in joined if several] + [(name,) for name in alone]
