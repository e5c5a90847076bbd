"""How much each matrix matters: the KL divergence when it alone is quantized; and the bits and groups that follow from it
under a size budget.

A matrix of block k is rounded, and the blocks from k on run on the vectors that the original model has before k. So the
figure is exact for these tokens, and all matrices are measured on the same ones. The schemes of the budget are chosen
greedily: all begin with 4 bits, and the matrix whose KL falls most for each byte of its next scheme gets that one; divergences
of single matrices add up well while they are small. The KL of the other schemes is taken to be that of 4 bits times the
squared rounding error over that of 4 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.compression.quantization.block_inputs import BlockInputs
from parakit.compression.quantization.measurement import OriginalOutputs
from parakit.compression.quantization.methods import BLOCKS
from parakit.compression.quantization.plan import QuantizationPlan, plan_bytes, stored_together
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantScheme, dequantize, quantizable, quantize_tensor
from parakit.model.quantized.scheme import Bits, GroupSize
from parakit.model.quantized.swapping import QuantPlan


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


@torch.inference_mode()
def measure_sensitivity(
    model: LanguageModel,
    windows: Tensor,
    schemes: QuantPlan,
    search: bool,
    done: Callable[[str], object] = lambda name: None,
) -> list[Sensitivity]:
    """The KL of each matrix of `schemes` on `windows` (N, T), in the model's order; the model is as before afterwards."""
    outputs, inputs = OriginalOutputs(model, windows), BlockInputs(model, windows)
    found: dict[str, Sensitivity] = {}
    shapes = quantizable(model)

    def measure(name: str, divergence: Callable[[], float]) -> None:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        original = weight.clone()
        weight.copy_(dequantize(quantize_tensor(weight, schemes[name], search=search)))
        kl = divergence()
        weight.copy_(original)
        n_out, n_in = shapes[name]
        scheme = schemes[name]
        found[name] = sensitivity_of(name, scheme, (n_out, n_in), kl)
        done(name)

    for number, block in enumerate(model.trunk.blocks):
        for name in (name for name in schemes if name.startswith(f"{BLOCKS}{number}.")):
            measure(name, lambda number=number: outputs.compare_from_block(model, inputs, number).kl)  # type: ignore[misc]
        inputs.advance(number, block)
    for name in (name for name in schemes if not name.startswith(BLOCKS)):
        measure(name, lambda: outputs.compare(model).kl)
    return [found[name] for name in schemes]


def sensitivity_of(name: str, scheme: QuantScheme, shape: tuple[int, int], kl: float) -> Sensitivity:
    """Of a matrix with a scheme."""
    n_bytes, n_weights = scheme.n_bytes(shape), shape[0] * shape[1]
    return Sensitivity(name, scheme.bits, kl, n_bytes, n_weights, quant_group_size=scheme.quant_group_size)


@torch.inference_mode()
def by_rounding_error(
    model: LanguageModel, low: Sequence[Sensitivity], plan: QuantizationPlan, finer: QuantizationPlan
) -> list[Sensitivity]:
    """The sensitivities with the schemes of `finer`, from those with the schemes of `plan`."""
    found = []
    for one in low:
        weight = model.get_submodule(one.name).weight
        assert isinstance(weight, Tensor)
        before, after = (
            float((dequantize(quantize_tensor(weight, each.schemes[one.name])) - weight).square().sum())
            for each in (plan, finer)
        )
        kl = one.kl * after / before if before else 0.0
        shape = (weight.shape[0], weight.shape[1])
        found.append(sensitivity_of(one.name, finer.schemes[one.name], shape, kl))
    return found


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

    def step(names: tuple[str, ...]) -> tuple[float, int]:
        """What the next scheme of some matrices gains in KL and costs in bytes."""
        now, then = by_name[level[names]], by_name[level[names] + 1]
        return (
            sum(now[name].kl - then[name].kl for name in names),
            sum(then[name].n_bytes - now[name].n_bytes for name in names),
        )

    while True:
        steps = {names: step(names) for names in level if level[names] + 1 < len(plans)}
        free = [names for names, (_, n_bytes) in steps.items() if n_bytes <= 0]  # the same scheme again
        fitting = [names for names, (gain, n_bytes) in steps.items() if gain > 0 and 0 < n_bytes <= left]
        if not free and not fitting:
            break
        for names in free or [max(fitting, key=lambda names: steps[names][0] / steps[names][1])]:
            level[names] += 1
            left -= steps[names][1]
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
