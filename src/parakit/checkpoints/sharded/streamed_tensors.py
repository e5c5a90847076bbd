"""Write safetensors files of tensors that exist one at a time, such as those gathered from several processes.

The header needs names, shapes and dtypes before any tensor is there; each tensor is then written at its place and dropped.
The bytes are those of the safetensors library: tensors are in the order of its dtypes, widest first, then of their names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints.safetensors_io import DTYPE_BITS, WEIGHT_DTYPES, name_shards

if TYPE_CHECKING:
    import torch

# the library's, from the last to the first
_ORDER = ("U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "I8", "U8", "BOOL")
_ALIGNMENT = 8  # of the header, which is filled up with spaces


@dataclass(frozen=True)
class TensorShape:
    """A tensor to come. `dtype` is a name of safetensors."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def n_bytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8


def stored_name(dtype: torch.dtype) -> str:
    """The name in safetensors of a dtype of weights."""
    names = {torch_name: name for name, torch_name in WEIGHT_DTYPES.items()}
    return names[str(dtype).removeprefix("torch.")]


def stream_weight_shards(
    shapes: Sequence[TensorShape],
    tensors: Iterable[tuple[str, torch.Tensor]],
    folder: Path,
    max_shard_bytes: int,
) -> None:
    """As `write_weight_shards`, of `tensors` in the order of `shapes`. One tensor is in memory at a time."""
    groups: list[list[TensorShape]] = [[]]
    for shape in shapes:
        if groups[-1] and sum(one.n_bytes for one in groups[-1]) + shape.n_bytes > max_shard_bytes:
            groups.append([])
        groups[-1].append(shape)
    coming = iter(tensors)
    for number, group in enumerate(groups):
        _write(group, coming, folder / f"{number}.part")
    n_params = sum(math.prod(shape.shape) for shape in shapes)
    names = [[shape.name for shape in group] for group in groups]
    name_shards(folder, names, n_params, sum(shape.n_bytes for shape in shapes))


def _write(shapes: Sequence[TensorShape], tensors: Iterable[tuple[str, torch.Tensor]], path: Path) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    starts, end = {}, 0
    for shape in sorted(shapes, key=lambda one: (_ORDER.index(one.dtype), one.name)):
        starts[shape.name], end = end, end + shape.n_bytes
        header[shape.name] = {
            "dtype": shape.dtype,
            "shape": list(shape.shape),
            "data_offsets": [starts[shape.name], end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    try:
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for shape, (name, tensor) in zip(shapes, tensors, strict=False):
                assert (name, tuple(tensor.shape)) == (shape.name, shape.shape), (name, tensor.shape, shape)
                file.seek(8 + len(text) + starts[name])
                file.write(_bytes_of(tensor))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _bytes_of(tensor: torch.Tensor) -> Any:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
