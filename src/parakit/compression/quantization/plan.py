"""Which matrix gets how many bits, in groups of what size, and what stays plain: decided before any weight is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from parakit.checkpoints import publisher
from parakit.checkpoints.model_folder import head_of
from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.compression.quantization.config import GROUP_SIZES, MatrixBits, QuantizeConfig
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantScheme, quantizable, tied_heads
from parakit.model.quantized.swapping import EMBEDDING, HEAD

Shapes = Mapping[str, tuple[int, int]]
BITS: tuple[Literal[4, 8], ...] = (4, 8)


@dataclass(frozen=True)
class QuantizationPlan:
    """`schemes` of the matrices by name, and `notes`: why a matrix has not the bits that were set, by name."""

    schemes: dict[str, QuantScheme]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def is_mixed(self) -> bool:
        """Whether the matrices differ in bits."""
        return len({scheme.bits for scheme in self.schemes.values()}) > 1


def plan_quantization(
    model: nn.Module, config: QuantizeConfig, bits: Mapping[str, Literal[4, 8]] | None = None
) -> QuantizationPlan:
    """The plan of `config`; `bits` by name replaces its number of bits, as a size budget does.

    `UserError` where a group size was set and a layer is no multiple of it, and for a plain layer that is not there.
    """
    shapes = quantizable(model)
    _check_plain(config, shapes)
    schemes: dict[str, QuantScheme] = {}
    notes: dict[str, str] = {}
    for name, shape in shapes.items():
        wanted = _wanted_bits(name, config, (bits or {}).get(name, config.bits or 4))
        if wanted == "plain":
            notes[name] = "set to plain"
            continue
        scheme = config.scheme(wanted, shape[1])
        fault = scheme.fault(shape)
        if fault and isinstance(config.quant_group_size, int):
            scheme.check(name, shape)
        if fault:
            scheme = config.replace(quant_group_size=None).scheme(8, shape[1])
            notes[name] = f"8 bits: {fault}"
        if name.rpartition(".")[2] == EMBEDDING:
            scheme = scheme.replace(activation_bits=None)
        schemes[name] = scheme
    if not schemes:
        raise UserError("every matrix of this model is to stay plain", "leave some to quantize")
    return QuantizationPlan(schemes, notes | _unquantized_experts(model))


def budget_plans(model: nn.Module, config: QuantizeConfig) -> list[QuantizationPlan]:
    """What a size budget chooses from for each matrix, from the smallest plan on: 4 bits, 8 bits and, where no group size is
    set, 8 bits in ever smaller groups. Larger groups of 4 bits would pay for little: 4 % of the KL of a 135M model.
    """
    shapes = quantizable(model)

    def in_groups(plan: QuantizationPlan, largest: int) -> QuantizationPlan:
        """The plan with 8 bits in the largest groups up to `largest` that divide a matrix, where any do."""
        schemes = dict(plan.schemes)
        for name, scheme in plan.schemes.items():
            sizes = [size for size in GROUP_SIZES if size <= largest and scheme.bits == 8]
            grouped = (scheme.replace(quant_group_size=size) for size in sizes)
            schemes[name] = next((one for one in grouped if not one.fault(shapes[name])), scheme)
        return QuantizationPlan(schemes, plan.notes)

    of_4, of_8 = (plan_quantization(model, config, dict.fromkeys(shapes, bits)) for bits in BITS)
    finer = GROUP_SIZES if config.quant_group_size is None else ()
    return [of_4, of_8, *(in_groups(of_8, size) for size in finer)]


def plan_bytes(model: nn.Module, schemes: Mapping[str, QuantScheme]) -> int:
    """Bytes of all weights under these schemes; what is not quantized counts in its own dtype."""
    shapes, tied = quantizable(model), tied_heads(model)
    quantized = sum(scheme.n_bytes(shapes[name]) for name, scheme in schemes.items())
    covered = {f"{name}.weight" for name in (*schemes, *(head for head, of in tied.items() if of in schemes))}
    plain = {name: p for name, p in model.named_parameters() if name not in covered}
    return quantized + sum(p.numel() * p.element_size() for p in plain.values())


def stored_together(model: LanguageModel) -> list[tuple[str, ...]]:
    """The matrices that are one tensor of the model's folder, for every tensor that consists of several; [] for a model that
    no published architecture computes.
    """
    head = head_of(model)
    try:
        architecture = publisher.choose_architecture(model.config, head, publisher.publisher_of(model))
    except UserError:
        return []
    slices = (tensor.sorted_slices() for tensor in architecture.hf_tensors(model.config, head))
    names = (tuple(one.name.removesuffix(".weight") for one in several) for several in slices)
    return [several for several in names if len(several) > 1]


def full_bytes(model: nn.Module) -> int:
    """Bytes of the model in float32."""
    return 4 * sum(parameter.numel() for parameter in model.parameters())


def _wanted_bits(name: str, config: QuantizeConfig, bits: Literal[4, 8]) -> MatrixBits:
    last = name.rpartition(".")[2]
    if {name, last} & set(config.plain_layers):
        return "plain"
    chosen = config.embedding_bits if last == EMBEDDING else config.head_bits if name == HEAD else None
    return bits if chosen is None else chosen


def _check_plain(config: QuantizeConfig, shapes: Shapes) -> None:
    known = {*shapes, *(name.rpartition(".")[2] for name in shapes)}
    for name in config.plain_layers:
        if name not in known:
            close = closest_match(name, sorted(known))
            parts = ", ".join(sorted({one.rpartition(".")[2] for one in shapes}))
            raise UserError(
                f"`plain_layers` names {name!r}, and the model has no such matrix",
                f"did you mean {close!r}?" if close else f"name some of: {parts}",
            )
    if config.head_bits is not None and HEAD not in shapes:
        raise UserError(
            "`head_bits` is set but has no effect: the output matrix is the embedding", "set `embedding_bits`"
        )


def _unquantized_experts(model: nn.Module) -> dict[str, str]:
    from parakit.model.layers.experts import MixtureOfExperts

    return {
        name: "experts are stacked in one parameter, which is not quantized"
        for name, module in model.named_modules()
        if isinstance(module, MixtureOfExperts)
    }
