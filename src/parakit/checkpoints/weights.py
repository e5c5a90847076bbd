"""A model's parameters and the tensors of its folder: checked against each other, copied in, and put together
again for writing.

Every foreign tensor is copied straight from the mapped file to its place, in the wanted dtype and on the wanted
device: nothing of the model's size is held twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints.mapping import Architecture, Head, NamedTensor, Piece
from parakit.checkpoints.safetensors_io import WEIGHT_DTYPES, TensorEntry, folder_tensors, read_tensors
from parakit.common.errors import CorruptArtifact, UserError
from parakit.model.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import Model


def checked_entries(
    folder: Path, architecture: Architecture, config: ModelConfig, head: Head
) -> dict[str, TensorEntry]:
    """The tensors on disk under the names of `named_tensors`: one for every parameter that the settings ask for,
    each of its shape and a dtype that weights can have; and copies of tied ones.
    """
    found = folder_tensors(folder)
    named = islice(architecture.named_tensors(config, head), len(found) + 1)  # of more, one is missing anyway
    wanted = {tensor.theirs: tensor for tensor in named}
    entries = _by_name(found, architecture, wanted.keys())
    for name, tensor in wanted.items():
        if name not in entries:
            raise UserError(
                f"{folder}: the weights lack the tensor {name!r}",
                "the model folder is not complete: fetch it again",
            )
        _check_entry(name, entries[name], tensor)
    for name in entries.keys() - wanted.keys():
        if name not in architecture.TIED_COPIES:
            raise UserError(
                f"{entries[name].file}: holds a tensor {name!r} that {architecture.MODEL_TYPE} has no place for",
                "it belongs to another model, or to another head: see `architectures` in config.json",
            )
    return entries


def empty_model(config: ModelConfig, head: Head, device: torch.device, dtype: torch.dtype) -> Model:
    """A model with unset weights: nothing is drawn at random to be thrown away. Tables of positions are filled,
    in float32 whatever the dtype.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class SkipInitialisers(TorchFunctionMode):
        """Initialisers on the meta device would import torch's compiler, which takes seconds."""

        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with torch.device("meta"), SkipInitialisers():
        model = _build(config, head)
    made: dict[int, torch.nn.Parameter] = {}  # a tied matrix stays one
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    made[id(parameter)] = torch.nn.Parameter(
                        torch.empty_like(parameter, dtype=dtype, device=device)
                    )
                module._parameters[name] = made[id(parameter)]
        if module._buffers:
            reset: Any = module.reset
            reset()
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(device)
    return model


def fill(
    model: Model, architecture: Architecture, head: Head, entries: Mapping[str, TensorEntry], folder: Path
) -> None:
    """Copy every foreign tensor to its place. Raises `CorruptArtifact` where a copy of a tied matrix differs
    from it.
    """
    import torch

    parameters = dict(model.named_parameters())
    wanted = {tensor.theirs: tensor for tensor in architecture.named_tensors(model.config, head)}
    n_named = sum(_size(tensor.shape) for tensor in wanted.values())
    assert n_named == sum(p.numel() for p in parameters.values()), "a parameter has no foreign tensor"
    with torch.no_grad():
        for name, tensor in read_tensors({name: entries[name] for name in entries if name in wanted}):
            for piece in wanted[name].pieces:
                place: torch.Tensor = parameters[piece.ours]
                place = place if piece.expert is None else place[piece.expert]
                place.copy_(_part(tensor, piece).reshape(place.shape))
    for copy, original in architecture.TIED_COPIES.items():
        original = original if original in entries else original.removeprefix(architecture.PREFIX)
        if copy in entries and copy not in wanted and original in entries:
            (_, first), (_, second) = read_tensors({name: entries[name] for name in (copy, original)})
            if not torch.equal(first, second):
                raise CorruptArtifact(
                    f"{folder}: {copy!r} is tied to {original!r} by config.json, and holds other values",
                    "set tie_word_embeddings to false if the model was trained untied",
                )


def gathered(
    model: Model, architecture: Architecture, head: Head, dtype: torch.dtype | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the folder, put together again; a part that needs no change is no copy. `dtype` None keeps
    each parameter's own.
    """
    import torch

    parameters = dict(model.named_parameters())
    for tensor in architecture.named_tensors(model.config, head):
        parts = []
        for piece in sorted(tensor.pieces, key=lambda piece: piece.rows or (0, 0)):
            part = parameters[piece.ours].detach()
            part = part if piece.expert is None else part[piece.expert]
            parts.append(part if dtype is None else part.to(dtype))
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        whole = whole.T if tensor.pieces[0].transposed else whole
        yield tensor.theirs, whole.reshape(tensor.shape).contiguous()


def sizes(config: ModelConfig, architecture: Architecture, head: Head) -> dict[str, int]:
    """Elements of every foreign tensor, in the order in which they are written."""
    return {tensor.theirs: _size(tensor.shape) for tensor in architecture.named_tensors(config, head)}


def stored_dtype(entries: Iterable[TensorEntry]) -> torch.dtype:
    """The dtype in which every stored weight keeps its value: theirs when they agree, else the narrowest that
    holds all.
    """
    import torch

    dtype = None
    for entry in entries:
        if entry.dtype in WEIGHT_DTYPES:
            stored = getattr(torch, WEIGHT_DTYPES[entry.dtype])
            dtype = stored if dtype is None else torch.promote_types(dtype, stored)
    assert dtype is not None
    return dtype


def _by_name(
    found: Mapping[str, TensorEntry], architecture: Architecture, wanted: Iterable[str]
) -> dict[str, TensorEntry]:
    """Tensors under the names that we look for: old endings replaced, and the trunk's prefix added or taken away
    where a folder was written from another head.
    """
    wanted, prefix = set(wanted), architecture.PREFIX
    known = wanted | architecture.TIED_COPIES.keys()
    entries = {}
    for theirs, entry in found.items():
        name = theirs
        for old, new in architecture.RENAMED.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name not in known:
            others = (prefix + name, name.removeprefix(prefix))
            name = next((other for other in others if other in known), name)
        if name not in known and architecture.is_ignorable(name):
            continue
        if name in entries:
            raise UserError(
                f"{entry.file}: holds the tensor {name!r} under two names, one of them {theirs!r}",
                "the folder mixes two models: fetch it again",
            )
        entries[name] = entry
    return entries


def _check_entry(name: str, entry: TensorEntry, tensor: NamedTensor) -> None:
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


def _build(config: ModelConfig, head: Head) -> Model:
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
    model: Model = classes[head.kind](shape)
    return model


def _part(tensor: torch.Tensor, piece: Piece) -> torch.Tensor:
    tensor = tensor.T if piece.transposed else tensor
    return tensor if piece.rows is None else tensor[slice(*piece.rows)]


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for length in shape:
        n *= length
    return n
