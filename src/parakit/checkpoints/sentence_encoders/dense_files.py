"""The weights of an embedder's dense layers: a `model.safetensors` in the folder of each Dense module.

`pooling_files` reads and writes which modules there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parakit.checkpoints.folder_safety import regular_file
from parakit.checkpoints.safetensors_io import SINGLE, WEIGHT_DTYPES, read_header, read_tensors, write_tensors
from parakit.checkpoints.sentence_encoders.pooling_files import dense_paths
from parakit.common.errors import UserError

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import Embedder


def read_dense_layers(model: Embedder, folder: Path) -> None:
    """Copy the weights of the Dense modules of `folder` into the model. Raises `UserError` naming a tensor that is missing,
    unknown, or of another shape.
    """
    import torch

    for layer, path in zip(model.dense_layers, dense_paths(folder), strict=True):
        where = regular_file(folder / path, SINGLE)
        entries, expected = read_header(where), dict(layer.named_parameters())
        shapes = {name: tuple(parameter.shape) for name, parameter in expected.items()}
        found = {name: entry.shape for name, entry in entries.items()}
        if found != shapes or any(entry.dtype not in WEIGHT_DTYPES for entry in entries.values()):
            raise UserError(
                f"{where}: holds {_listed(found)}, and its config.json asks for {_listed(shapes)}",
                "they belong to different models: fetch the folder again",
            )
        with torch.no_grad():
            for name, tensor in read_tensors(entries):
                expected[name].copy_(tensor)


def write_dense_layers(model: Embedder, folder: Path, dtype: torch.dtype | None) -> None:
    """Write the weights of the dense layers next to the settings that `folder` has; `dtype` None keeps each one's own."""
    for layer, path in zip(model.dense_layers, dense_paths(folder), strict=True):
        tensors = {name: tensor.detach().contiguous() for name, tensor in layer.named_parameters()}
        if dtype is not None:
            tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        write_tensors(tensors, folder / path / SINGLE)


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items())) or "nothing"
