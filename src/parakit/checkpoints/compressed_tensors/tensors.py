"""The tensors of a quantized matrix in the layout of compressed-tensors, to and from the canonical buffers.

A matrix NAME.weight (O, I) is stored as NAME.weight_packed, int32, whose words hold 32 / bits codes each, the first in the
lowest bits, with an offset of half the range, so that the bytes of 4-bit weights are those of `rounding`; or, for int8, as
NAME.weight itself. Next to it are NAME.weight_scale (O, G), NAME.weight_shape, and for schemes without symmetry
NAME.weight_zero_point, packed like the weights but along the outputs. Codes are never dequantized here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from parakit.checkpoints.compressed_tensors.settings import LINEAR, PACKED, SchemeGroup, storage_format
from parakit.checkpoints.mapping import HFTensor, join_rows, take_rows
from parakit.checkpoints.safetensors_io import WEIGHT_DTYPES, TensorEntry, read_tensors
from parakit.common.errors import CorruptArtifact, UserError
from parakit.model.quantized.scheme import QuantScheme

if TYPE_CHECKING:
    import torch
    from torch import nn

    from parakit.model.quantized.layers import QuantizedWeight
    from parakit.model.quantized.rounding import QuantizedTensor

WEIGHT = ".weight"
CODES, SCALE, ZERO, SHAPE = "_packed", "_scale", "_zero_point", "_shape"
SUFFIXES = (CODES, SCALE, ZERO, SHAPE)
MAX_SCALE_ERROR = 2.0**-10
"""Of a stored scale that float16 rounds: as much as bfloat16 itself rounds."""


def find_schemes(
    expected: Mapping[str, HFTensor],
    entries: Mapping[str, TensorEntry],
    groups: Sequence[SchemeGroup],
) -> dict[str, QuantScheme]:
    """The names of the expected matrices that are stored quantized, with the scheme that fits the shapes of their tensors.
    `UserError` names a tensor that is missing, has another shape or fits no scheme of config.json.
    """
    found = {}
    for name, tensor in expected.items():
        packed, plain = name + CODES in entries, entries.get(name)
        if packed or (name + SCALE in entries and plain is not None and plain.dtype == "I8"):
            _check_layout(tensor, entries[name + CODES] if plain is None else plain)
            found[name] = _scheme_of(tensor, entries, groups)
    return found


def stored_parts(name: str, entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """The tensors on disk of one quantized matrix."""
    return {one: entries[one] for one in (name, *(name + suffix for suffix in SUFFIXES)) if one in entries}


def read_matrix(
    name: str, shape: tuple[int, ...], scheme: QuantScheme, entries: Mapping[str, TensorEntry]
) -> QuantizedTensor:
    """The canonical buffers of one matrix; on the CPU some are views of the file."""
    import torch

    from parakit.model.quantized.rounding import QuantizedTensor, pack_nibbles, scale_dtype, unpack_nibbles

    parts = stored_parts(name, entries)
    stored = dict(read_tensors(parts))
    if name + SHAPE in stored and stored[name + SHAPE].tolist() != list(shape):
        raise CorruptArtifact(
            f"{parts[name + SHAPE].file}: {name + SHAPE!r} says {stored[name + SHAPE].tolist()}, and config.json {list(shape)}",
            "the weights belong to another model, or the file is damaged: fetch it again",
        )
    n_out, n_in = shape
    if name in stored:
        qweight = (
            stored[name] if scheme.bits == 8 else pack_nibbles((stored[name] + 8).view(torch.uint8) & 15)
        )
    else:
        qweight = stored[name + CODES].contiguous().view(torch.uint8)[:, : n_in * scheme.bits // 8]
        qweight = qweight if scheme.bits == 4 else (qweight ^ 0x80).view(torch.int8)
    zeros = None
    if not scheme.symmetric:
        words = stored[name + ZERO].T.contiguous()  # (G, ceil(O / 8))
        zeros = unpack_nibbles(words.view(torch.uint8))[:, :n_out].T.contiguous()
    scales = stored[name + SCALE].float()
    kept = scales.to(scale_dtype(scheme))
    if (
        not torch.isfinite(kept).all()
        or ((kept.float() - scales).abs() > scales.abs() * MAX_SCALE_ERROR).any()
    ):
        raise UserError(
            f"{parts[name + SCALE].file}: {name + SCALE!r} has a scale that float16 does not hold, such as"
            f" {scales.abs().max().item():.3g}",
            "the file is damaged, or the matrix has to be quantized again with a scale for each row",
        )
    return QuantizedTensor(qweight, kept, zeros, scheme)


def load_matrix(
    model: nn.Module, tensor: HFTensor, scheme: QuantScheme, entries: Mapping[str, TensorEntry]
) -> None:
    """Copy one stored matrix into the quantized modules that its rows belong to."""
    whole = read_matrix(tensor.hf_name, tensor.shape, scheme, entries)
    for part in tensor.slices:
        module = quantized_module(model, part.name)
        assert module is not None
        buffers = (
            (module.qweight, whole.qweight),
            (module.scales, whole.scales),
            (module.zeros, whole.zeros),
        )
        for target, source in buffers:
            if target is not None and source is not None:
                target.copy_(take_rows(source, part.rows, part.groups))


def matrix_tensors(name: str, tensor: QuantizedTensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The stored tensors of one matrix: the inverse of `read_matrix`."""
    import torch

    from parakit.model.quantized.rounding import pack_nibbles

    scheme, (n_out, n_in) = tensor.scheme, tensor.shape
    if storage_format(scheme) == PACKED:
        codes = tensor.qweight if scheme.bits == 4 else tensor.qweight.view(torch.uint8) ^ 0x80
        yield name + CODES, _words(codes)
        yield name + SHAPE, torch.tensor([n_out, n_in])
    else:
        yield name, tensor.qweight
    yield name + SCALE, tensor.scales
    if tensor.zeros is not None:
        columns = torch.nn.functional.pad(tensor.zeros.T, (0, n_out % 2))  # (G, O), even
        yield name + ZERO, _words(pack_nibbles(columns)).T.contiguous()


def joined_modules(tensor: HFTensor, modules: Sequence[QuantizedWeight]) -> QuantizedTensor:
    """The rows of the modules that are one matrix of the folder."""
    from parakit.model.quantized.rounding import QuantizedTensor

    groups = tensor.slices[0].groups
    parts = [module.quantized for module in modules]
    zeros = [part.zeros for part in parts if part.zeros is not None]
    return QuantizedTensor(
        join_rows([part.qweight for part in parts], groups),
        join_rows([part.scales for part in parts], groups),
        join_rows(zeros, groups) if zeros else None,
        modules[0].scheme,
    )


def quantized_module(model: nn.Module, parameter: str) -> QuantizedWeight | None:
    """The quantized module whose matrix replaces the parameter of this name; None where it is plain."""
    from parakit.model.quantized.layers import QuantizedWeight

    owner, _, name = parameter.rpartition(".")
    module = model.get_submodule(owner) if name == "weight" else None
    return module if isinstance(module, QuantizedWeight) else None


def _words(codes: torch.Tensor) -> torch.Tensor:
    """Bytes (R, N) as int32 words (R, ceil(N / 4)), the first byte lowest."""
    import torch

    padded = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 4))
    return padded.flatten().view(torch.int32).unflatten(0, (len(codes), -1))  # strides of one row may be any


def _scheme_of(
    tensor: HFTensor, entries: Mapping[str, TensorEntry], groups: Sequence[SchemeGroup]
) -> QuantScheme:
    """The scheme of config.json whose tensors have the shapes on disk."""
    name = tensor.hf_name
    fitting = [group for group in groups if _fits(tensor, entries, group.scheme)]
    schemes = {group.scheme for group in fitting}
    if len(schemes) > 1:  # they differ by activations, or by what the shapes do not show
        module = name.removesuffix(WEIGHT)
        named = [group for group in fitting if module in group.targets]
        named = named or [group for group in fitting if LINEAR in group.targets]
        schemes = {group.scheme for group in named} or schemes
    if len(schemes) == 1:
        return schemes.pop()
    listed = ", ".join(
        f"{one} {entry.dtype} {entry.shape}" for one, entry in stored_parts(name, entries).items()
    )
    known = ", ".join(_describe(group.scheme) for group in groups) or "none"
    why = "fit several" if schemes else "fit none"
    raise UserError(
        f"{next(iter(stored_parts(name, entries).values())).file}: the tensors of {name!r} {tensor.shape} {why} of the schemes"
        f" of config.json ({known}): {listed}",
        "a tensor is missing or damaged, or config.json belongs to another model: fetch the folder again",
    )


def _fits(tensor: HFTensor, entries: Mapping[str, TensorEntry], scheme: QuantScheme) -> bool:
    name, (n_out, n_in) = tensor.hf_name, (tensor.shape[0], tensor.shape[1])
    if scheme.fault((n_out, n_in)) is not None:
        return False
    scales = (n_out, scheme.groups(n_in))
    shapes: dict[str, tuple[Iterable[str], tuple[int, ...]]] = {name + SCALE: (WEIGHT_DTYPES, scales)}
    if name + CODES in entries:
        shapes[name + CODES] = (("I32",), (n_out, math.ceil(n_in * scheme.bits / 32)))
        shapes[name + SHAPE] = (("I64", "I32"), (2,))
    else:
        shapes[name] = (("I8",), (n_out, n_in))
    if not scheme.symmetric:
        shapes[name + ZERO] = (("I32",), (math.ceil(n_out / 8), scales[1]))
    parts = stored_parts(name, entries)
    return parts.keys() == shapes.keys() and all(
        parts[one].dtype in dtypes and parts[one].shape == shape for one, (dtypes, shape) in shapes.items()
    )


def _check_layout(tensor: HFTensor, entry: TensorEntry) -> None:
    """Rows of a stored matrix must be rows of modules: a transposed matrix or a stack of experts has no such layout."""
    for part in tensor.slices:
        if len(tensor.shape) != 2 or part.transposed or part.stacked or part.expert is not None:
            raise UserError(
                f"{entry.file}: {tensor.hf_name!r} is quantized, and Parakit has it as a part of a larger tensor or transposed",
                "take the publisher's plain weights",
            )


def _describe(scheme: QuantScheme) -> str:
    group = "rows" if scheme.quant_group_size is None else f"groups of {scheme.quant_group_size}"
    return f"{scheme.bits} bits, {group}{'' if scheme.symmetric else ', with zero points'}"
