"""Tensors of a folder to parameters of a model, and back.

Loading copies each tensor straight from the memory-mapped file into its parameter, with the target's dtype and device:
nothing of the model's size is in memory twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints import mxfp4
from parakit.checkpoints.compressed_tensors import tensors as quantized
from parakit.checkpoints.compressed_tensors.export import modules_of, quantized_tensors
from parakit.checkpoints.compressed_tensors.settings import SchemeGroup
from parakit.checkpoints.mapping import (
    Architecture,
    Head,
    HFTensor,
    TensorSlice,
    join_rows,
    stored_tensors,
    take_rows,
)
from parakit.checkpoints.safetensors_io import WEIGHT_DTYPES, TensorEntry, folder_tensors, read_tensors
from parakit.checkpoints.sharded.streamed_tensors import TensorShape, stored_name
from parakit.checkpoints.sharded.tensor_parts import copy_part, whole
from parakit.common.errors import CorruptArtifact, UserError
from parakit.model.config import ModelConfig
from parakit.model.quantized.scheme import QuantScheme

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import TransformerModel


# An embedder's, whose tensors are in files of their own: see `dense_files`.
DENSE_LAYERS = "dense_layers."
MORE_NAMES = (
    10_000  # of a config that asks for more tensors than are stored: enough to tell which of those it knows
)


@dataclass(frozen=True)
class StoredTensors:
    """The tensors of a folder under the expected names, and the scheme of each matrix that is stored quantized."""

    entries: Mapping[str, TensorEntry]
    quantized: Mapping[str, tuple[HFTensor, QuantScheme]]

    def plain(self) -> list[TensorEntry]:
        """The tensors that are not those of quantized matrices."""
        parts = {part for name in self.quantized for part in quantized.stored_parts(name, self.entries)}
        return [entry for name, entry in self.entries.items() if name not in parts]

    def plan(self) -> dict[str, QuantScheme]:
        """The scheme of every quantized module."""
        return {
            part.name.removesuffix(quantized.WEIGHT): scheme
            for tensor, scheme in self.quantized.values()
            for part in tensor.slices
        }


def match_tensors(
    folder: Path,
    architecture: Architecture,
    config: ModelConfig,
    head: Head,
    ignored: Collection[str] = (),
    groups: Sequence[SchemeGroup] = (),
) -> StoredTensors:
    """The tensors on disk under the names of `hf_tensors`: one for every parameter of such a model, each with its
    shape and a supported dtype; and copies of tied ones. `ignored` are names on disk to leave out, `groups` the schemes of
    quantized matrices, which are stored as several tensors.
    """
    stored = {name: entry for name, entry in folder_tensors(folder).items() if name not in ignored}
    expected = {
        tensor.hf_name: tensor  # one more than stored is enough to find a missing one
        for tensor in islice(stored_tensors(architecture, config, head, stored), len(stored) + 1)
    }
    suffixes = ("", mxfp4.BLOCKS, mxfp4.SCALES, *(quantized.SUFFIXES if groups else ()))
    known = {name + suffix for name in (*expected, *architecture.TIED_COPIES) for suffix in suffixes}
    entries = _normalize_names(stored, architecture, known)
    schemes = quantized.find_schemes(expected, entries, groups) if groups else {}
    packed = {name for name, tensor in expected.items() if mxfp4.is_packed(name, tensor.shape, entries)}
    for name, tensor in expected.items():
        if name in packed or name in schemes:
            continue
        if name not in entries:
            every = (tensor.hf_name for tensor in stored_tensors(architecture, config, head, stored))
            own = {*islice(every, len(stored) + MORE_NAMES), *known, *architecture.TIED_COPIES}
            raise _lacking(folder, architecture, name, sorted(entries.keys() - own))
        _check_entry(name, entries[name], tensor)
    halves = {name + suffix for name in packed for suffix in (mxfp4.BLOCKS, mxfp4.SCALES)}
    halves |= {part for name in schemes for part in quantized.stored_parts(name, entries)}
    halves |= {part for name in architecture.TIED_COPIES for part in quantized.stored_parts(name, entries)}
    for name in entries.keys() - expected.keys() - halves:
        if name not in architecture.TIED_COPIES:
            raise UserError(
                f"{entries[name].file}: holds a tensor {name!r} that {architecture.MODEL_TYPE} does not have",
                "it belongs to another model, or to another head: see `architectures` in config.json",
            )
    return StoredTensors(entries, {name: (expected[name], scheme) for name, scheme in schemes.items()})


def empty_model(
    config: ModelConfig,
    head: Head,
    device: torch.device,
    dtype: torch.dtype,
    plan: Mapping[str, QuantScheme] | None = None,
) -> TransformerModel:
    """A model with uninitialized weights: no random numbers are drawn. Position tables are filled, in float32 whatever
    the dtype. The modules of `plan` are quantized, and never had plain weights.
    """
    import torch

    from parakit.checkpoints.sharded.empty_weights import without_memory
    from parakit.model.quantized import QuantizedWeight, quantize_modules

    with without_memory():
        model = _build(config, head)
        if plan:
            quantize_modules(model, plan)
    allocated: dict[int, torch.nn.Parameter] = {}  # a tied matrix stays one
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in allocated:
                    allocated[id(parameter)] = torch.nn.Parameter(
                        torch.empty(parameter.shape, dtype=dtype, device=device)
                    )
                module._parameters[name] = allocated[id(parameter)]
        if module._buffers:
            reset: Any = module.reset
            reset()
            if isinstance(module, QuantizedWeight):
                module.to(device, dtype)
                continue
            for name, buffer in module._buffers.items():
                on_device = buffer is None or device.type == "meta"  # whose parts get memory later
                module._buffers[name] = buffer if on_device else buffer.to(device)  # type: ignore[union-attr]
    return model


def load_into(
    model: TransformerModel,
    architecture: Architecture,
    head: Head,
    stored: StoredTensors,
    folder: Path,
) -> None:
    """Copy the tensors of a folder into a model's parameters, and quantized matrices into their modules. Raises
    `CorruptArtifact` where a copy of a tied matrix differs from it.
    """
    import torch

    entries = stored.entries
    parameters = {name: p for name, p in model.named_parameters() if not name.startswith(DENSE_LAYERS)}
    tensors = stored_tensors(architecture, model.config, head, entries)
    expected = {tensor.hf_name: tensor for tensor in tensors if tensor.hf_name not in stored.quantized}
    n_elements = sum(math.prod(tensor.shape) for tensor in expected.values())
    assert n_elements == sum(p.numel() for p in parameters.values()), "a parameter has no tensor in the file"
    with torch.no_grad():
        for hf_name, tensor in read_tensors({name: entries[name] for name in entries if name in expected}):
            _fill(parameters, expected[hf_name], tensor)
        for matrix, scheme in stored.quantized.values():
            quantized.load_matrix(model, matrix, scheme, entries)
        for hf_name in expected.keys() - entries.keys():
            blocks, scales = hf_name + mxfp4.BLOCKS, hf_name + mxfp4.SCALES
            packed = dict(read_tensors({name: entries[name] for name in (blocks, scales)}))
            unpacked = mxfp4.unpack(packed[blocks], packed[scales], torch.bfloat16)
            _fill(parameters, expected[hf_name], unpacked)
    known = expected.keys() | stored.quantized.keys()
    for copy, original in architecture.TIED_COPIES.items():
        original = original if original in known else original.removeprefix(architecture.PREFIX)
        if copy in known or original not in known:
            continue
        for part in quantized.stored_parts(copy, entries):
            same = original + part.removeprefix(copy)
            pair = dict(read_tensors({name: entries[name] for name in (part, same) if name in entries}))
            if len(pair) < 2 or not torch.equal(pair[part], pair[same]):
                raise CorruptArtifact(
                    f"{folder}: {copy!r} is tied to {original!r} by config.json, and holds other values",
                    "set tie_word_embeddings to false if the model was trained untied",
                )


def fill_model(
    model: TransformerModel,
    architecture: Architecture,
    head: Head,
    tensors: Iterable[tuple[str, torch.Tensor]],
) -> set[str]:
    """Copy named tensors, which are in no folder, into a model's parameters; the names that came. Raises `UserError` for one
    that such a model does not have, or of another shape.
    """
    import torch

    parameters = dict(model.named_parameters())
    expected = {tensor.hf_name: tensor for tensor in architecture.hf_tensors(model.config, head)}
    filled = set()
    with torch.no_grad():
        for name, values in tensors:
            if name not in expected or tuple(values.shape) != expected[name].shape:
                wanted = (
                    f", not {expected[name].shape}"
                    if name in expected
                    else ", and the model has no such tensor"
                )
                raise UserError(
                    f"the tensor {name!r} has the shape {tuple(values.shape)}{wanted}",
                    "the file is damaged: fetch it again",
                )
            _fill(parameters, expected[name], values)
            filled.add(name)
    return filled


def export_tensors(
    model: TransformerModel, architecture: Architecture, head: Head, dtype: torch.dtype | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the folder, with its name; one that equals its parameter is not copied. `dtype` None keeps each
    parameter's own; quantized matrices keep theirs always.
    """
    parameters = dict(model.named_parameters())
    for tensor in architecture.hf_tensors(model.config, head):
        if modules := modules_of(model, tensor):
            yield from quantized_tensors(tensor, modules)
            continue
        parts = []
        for part in tensor.sorted_slices():
            value = whole(parameters[part.name])
            value = value if part.expert is None else value[part.expert]
            parts.append(value if dtype is None else value.to(dtype))
        first = tensor.slices[0]
        joined = join_rows(parts, first.groups, int(first.stacked))
        joined = joined.mT if first.transposed else joined
        yield tensor.hf_name, joined.reshape(tensor.shape).contiguous()


def export_shapes(
    model: TransformerModel, architecture: Architecture, head: Head, dtype: torch.dtype | None
) -> list[TensorShape]:
    """What `export_tensors` yields of a model without quantized weights, before it does."""
    parameters = dict(model.named_parameters())
    return [
        TensorShape(
            tensor.hf_name, tensor.shape, stored_name(dtype or parameters[tensor.slices[0].name].dtype)
        )
        for tensor in architecture.hf_tensors(model.config, head)
    ]


def require_finite_weights(
    model: TransformerModel, architecture: Architecture, head: Head, where: str
) -> int:
    """The number of the model's values, after one pass over them; `UserError` names a tensor with NaN or infinity."""
    import torch

    n, bad = sum(tensor_sizes(model.config, architecture, head).values()), []
    for name, tensor in export_tensors(model, architecture, head, None):
        if not torch.isfinite(tensor).all():
            bad.append((name, tensor.numel() - int(torch.isfinite(tensor).sum()), tensor))
    if bad:
        name, n_bad, tensor = bad[0]
        others = f", and {len(bad) - 1} other tensors too" if len(bad) > 1 else ""
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise UserError(
            f"{where}: {n_bad} of the {tensor.numel()} values of {name} ({dtype}) are NaN or infinite{others}",
            "such a model computes nothing of use: fetch it again, or ask its publisher"
            + ("; float16 ends at 65504: choose bfloat16 or float32" if dtype == "float16" else ""),
        )
    return n


def tensor_sizes(config: ModelConfig, architecture: Architecture, head: Head) -> dict[str, int]:
    """Elements of every tensor of the folder, in the order in which they are written."""
    return {tensor.hf_name: math.prod(tensor.shape) for tensor in architecture.hf_tensors(config, head)}


def stored_dtype(entries: Iterable[TensorEntry]) -> torch.dtype:
    """The narrowest dtype that holds every stored weight exactly."""
    import torch

    dtype = None
    for entry in entries:
        if entry.dtype in WEIGHT_DTYPES:
            stored = getattr(torch, WEIGHT_DTYPES[entry.dtype])
            dtype = stored if dtype is None else torch.promote_types(dtype, stored)
    assert dtype is not None
    return dtype


def commonest_dtype(entries: Iterable[TensorEntry]) -> str:
    """torch's name of the dtype that most of the weights have."""
    counts: Counter[str] = Counter()
    for entry in entries:
        if entry.dtype in WEIGHT_DTYPES:
            counts[WEIGHT_DTYPES[entry.dtype]] += math.prod(entry.shape)
    return counts.most_common(1)[0][0]


def _normalize_names(
    stored: Mapping[str, TensorEntry], architecture: Architecture, expected: Collection[str]
) -> dict[str, TensorEntry]:
    """Tensors under the expected names: old suffixes replaced, and the trunk's prefix added or removed where a folder
    was saved with another head.
    """
    other_prefix = getattr(architecture, "OTHER_PREFIX", None)
    prefix, known = architecture.PREFIX, {*expected, *architecture.TIED_COPIES}
    entries: dict[str, TensorEntry] = {}
    for hf_name, entry in stored.items():
        name = hf_name
        if other_prefix and name.startswith(other_prefix):
            name = prefix + name.removeprefix(other_prefix)
        for old, new in architecture.RENAMED.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name not in known:
            others = (prefix + name, name.removeprefix(prefix))
            name = next((other for other in others if other in known), name)
        if name not in known and architecture.is_ignorable(name):
            continue
        if name in entries:
            raise UserError(
                f"{entry.file}: holds the tensor {name!r} under two names, one of them {hf_name!r}",
                "the folder mixes two models: fetch it again",
            )
        entries[name] = entry
    return entries


def _lacking(folder: Path, architecture: Architecture, name: str, unknown: list[str]) -> UserError:
    """A tensor is missing: with other tensors in its place the names are another program's, else a file was lost."""
    if unknown:
        return UserError(
            f"{folder}: the weights lack the tensor {name!r} and hold {len(unknown)} that {architecture.MODEL_TYPE} does not"
            f" have, such as {unknown[0]!r}",
            "they are another model's, or were saved under other names: see `architectures` in config.json, or save the"
            " model with save_pretrained",
        )
    return UserError(
        f"{folder}: the weights lack the tensor {name!r}", "the model folder is not complete: fetch it again"
    )


def _check_entry(name: str, entry: TensorEntry, tensor: HFTensor) -> None:
    if entry.shape != tensor.shape:
        raise UserError(
            f"{entry.file}: tensor {name!r} has shape {entry.shape}, config.json asks for {tensor.shape}",
            "they belong to different models",
        )
    if entry.dtype not in WEIGHT_DTYPES:
        raise UserError(
            f"{entry.file}: tensor {name!r} has dtype {entry.dtype}",
            f"weights of these dtypes are loaded: {', '.join(WEIGHT_DTYPES)}",
        )


def _build(config: ModelConfig, head: Head) -> TransformerModel:
    from parakit.model import heads

    shape: Any = config
    if head.classes is not None:
        return heads.Classifier(shape, head.classes)
    if head.pooling is not None:
        return heads.Embedder(shape, head.pooling)
    classes = {
        "language_model": heads.LanguageModel,
        "masked_language_model": heads.MaskedLanguageModel,
        "sequence_to_sequence": heads.SequenceToSequence,
        "reward_model": heads.RewardModel,
    }
    model: TransformerModel = classes[head.kind](shape)
    return model


def _fill(parameters: Mapping[str, torch.Tensor], tensor: HFTensor, values: torch.Tensor) -> None:
    """Copy the slices of a tensor into their parameters."""
    for part in tensor.slices:
        target = parameters[part.name]
        shape = target.shape if part.expert is None else target.shape[1:]
        copy_part(target, _take_slice(values, part).reshape(shape), part.expert)


def _take_slice(tensor: torch.Tensor, part: TensorSlice) -> torch.Tensor:
    return take_rows(tensor.mT if part.transposed else tensor, part.rows, part.groups, int(part.stacked))
