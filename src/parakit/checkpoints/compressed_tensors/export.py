"""What a model with quantized modules writes into a folder: settings and tensors, under the names of its architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from parakit.checkpoints.compressed_tensors.settings import quantization_json, transformers_reads
from parakit.checkpoints.compressed_tensors.tensors import (
    WEIGHT,
    joined_modules,
    matrix_tensors,
    quantized_module,
)
from parakit.checkpoints.mapping import Architecture, Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.model.quantized.scheme import QuantScheme

if TYPE_CHECKING:
    import torch
    from torch import nn

    from parakit.model.heads import TransformerModel
    from parakit.model.quantized.layers import QuantizedWeight


def saved_quantization(model: TransformerModel, architecture: Architecture, head: Head) -> JsonObject | None:
    """The `quantization_config` of a model; None for a plain one. `UserError` names a matrix that the layout of this
    architecture cannot hold: call it before anything is written.
    """
    from parakit.model.quantized import QuantizedEmbedding, is_quantized

    if not is_quantized(model):
        return None
    linear: dict[str, QuantScheme] = {}
    embeddings: dict[str, QuantScheme] = {}
    plain = []
    tensors = list(architecture.hf_tensors(model.config, head))
    names = {tensor.hf_name for tensor in tensors}
    for tensor in tensors:
        module = tensor.hf_name.removesuffix(WEIGHT)
        modules = modules_of(model, tensor)
        if not modules:
            if len(tensor.shape) == 2 and module != tensor.hf_name:
                plain.append(module)
            continue
        is_embedding = isinstance(modules[0], QuantizedEmbedding)
        (embeddings if is_embedding else linear)[module] = modules[0].scheme
    for copy, original in architecture.TIED_COPIES.items():
        copied, source = copy.removesuffix(WEIGHT), original.removesuffix(WEIGHT)
        if copy in names or original not in names:
            continue
        if source in embeddings:
            embeddings[copied] = embeddings[source]
        elif source in plain:
            plain.append(copied)
    if not transformers_reads(linear.values(), embeddings.values()):
        log(
            "quantized weights: Parakit reads this folder; transformers 5 does not read several schemes together with quantized"
            " embeddings or zero points"
        )
    return quantization_json(linear, embeddings, plain)


def check_plan_can_be_saved(
    model: TransformerModel, plan: Mapping[str, QuantScheme], architecture: Architecture, head: Head
) -> None:
    """Raise the `UserError` of `saved_quantization` for a plain model and a plan, before anything is computed."""
    for tensor in architecture.hf_tensors(model.config, head):
        _check_tensor(tensor, [plan.get(part.name.removesuffix(WEIGHT)) for part in tensor.sorted_slices()])


def modules_of(model: nn.Module, tensor: HFTensor) -> list[QuantizedWeight]:
    """The quantized modules that one tensor of the folder consists of; [] where it is plain."""
    modules = [quantized_module(model, part.name) for part in tensor.sorted_slices()]
    _check_tensor(tensor, [None if module is None else module.scheme for module in modules])
    return [module for module in modules if module is not None]


def _check_tensor(tensor: HFTensor, schemes: Sequence[QuantScheme | None]) -> None:
    """`schemes`: of the tensor's slices, None where plain."""
    slices = tensor.sorted_slices()
    if not any(schemes):
        return
    if len(set(schemes)) > 1:
        raise UserError(
            f"{', '.join(part.name for part in slices)} are one matrix in {tensor.hf_name}, and are quantized differently",
            "quantize them alike",
        )
    if any(part.transposed or part.stacked or part.expert is not None for part in slices):
        raise UserError(
            f"{tensor.hf_name} is stored transposed or stacked, which the layout of quantized weights does not have",
            "leave its layers out; where all are stored so, this architecture cannot be quantized",
        )


def quantized_tensors(tensor: HFTensor, modules: list[QuantizedWeight]) -> Iterator[tuple[str, torch.Tensor]]:
    """The stored tensors of one quantized matrix of the folder."""
    yield from matrix_tensors(tensor.hf_name, joined_modules(tensor, modules))
