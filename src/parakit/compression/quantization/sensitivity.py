"""How much each matrix matters: the KL divergence when it alone is quantized; and the bits that follow from it under a size
budget.

A matrix of block k is rounded, and the blocks from k on run on the vectors that the original model has before k. So the
figure is exact for these tokens, and all matrices are measured on the same ones. The bits of the budget are chosen greedily:
all begin with 4, and the matrix whose KL falls most for each byte of 8 bits is next; divergences of single matrices add up
well while they are small. With 8 bits instead of 4 a step is a sixteenth, and the KL is taken to be its square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.compression.quantization.block_inputs import BlockInputs
from parakit.compression.quantization.config import QuantizeConfig
from parakit.compression.quantization.measurement import OriginalOutputs
from parakit.compression.quantization.methods import BLOCKS
from parakit.compression.quantization.plan import plan_bytes, plan_quantization, stored_together
from parakit.model.heads import LanguageModel
from parakit.model.quantized import dequantize, quantizable, quantize_tensor
from parakit.model.quantized.scheme import Bits
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
        found[name] = Sensitivity(name, scheme.bits, kl, scheme.n_bytes((n_out, n_in)), n_out * n_in)
        done(name)

    for number, block in enumerate(model.trunk.blocks):
        for name in (name for name in schemes if name.startswith(f"{BLOCKS}{number}.")):
            measure(name, lambda number=number: outputs.compare_from_block(model, inputs, number).kl)  # type: ignore[misc]
        inputs.advance(number, block)
    for name in (name for name in schemes if not name.startswith(BLOCKS)):
        measure(name, lambda: outputs.compare(model).kl)
    return [found[name] for name in schemes]


def choose_bits(
    model: LanguageModel, config: QuantizeConfig, budget: int, by_bits: Mapping[int, list[Sensitivity]]
) -> tuple[dict[str, Bits], list[Sensitivity]]:
    """The bits of each matrix within `budget` bytes, and the sensitivities with which of them was chosen. `by_bits`: of 4 and
    8 bits. `UserError` where even 4 bits everywhere are over it.
    """
    bits: dict[str, Bits] = {one.name: one.bits for one in by_bits[4]}
    smallest = plan_bytes(model, plan_quantization(model, config, bits).schemes)
    if smallest > budget:
        raise UserError(
            f"a size budget of {budget / 1e6:.1f} MB, and with 4 bits everywhere the weights need {smallest / 1e6:.1f} MB",
            "raise the budget, or distill a smaller model first",
        )
    gains = _gains(model, by_bits)
    left = budget - smallest
    for names, (gain, n_bytes) in sorted(gains.items(), key=lambda item: -item[1][0] / item[1][1]):
        if gain > 0 and n_bytes <= left:
            bits |= dict.fromkeys(names, 8)
            left -= n_bytes
    report = [
        replace(one, chosen=one.bits == bits[one.name])
        for pair in zip(by_bits[4], by_bits[8], strict=True)
        for one in pair
    ]
    return bits, report


def _gains(
    model: LanguageModel, by_bits: Mapping[int, list[Sensitivity]]
) -> dict[tuple[str, ...], tuple[float, int]]:
    """What 8 bits instead of 4 gain in KL and cost in bytes, for the matrices that can have them. Those that the model's
    folder stores as one (queries, keys and values of GPT-NeoX) go together.
    """
    pairs = {
        low.name: (low.kl - high.kl, high.n_bytes - low.n_bytes)
        for low, high in zip(by_bits[4], by_bits[8], strict=True)
        if high.n_bytes > low.n_bytes
    }
    together = [tuple(name for name in names if name in pairs) for names in stored_together(model)]
    alone = [(name,) for name in pairs.keys() - {name for names in together for name in names}]
    return {
        names: (sum(pairs[name][0] for name in names), sum(pairs[name][1] for name in names))
        for names in (*together, *alone)
        if names
    }
