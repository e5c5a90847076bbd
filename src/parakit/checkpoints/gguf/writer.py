"""Write GGUF files: version 3, little-endian, tensors one after another as they come. The inverse of `reader`.

The header lists every tensor's place before the first weight is written, so shapes and kinds are known beforehand, and
the weights themselves are streamed: one tensor at a time is in memory.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from parakit.checkpoints.gguf.dequantization import BLOCKS, KIND_NAMES, Bytes
from parakit.checkpoints.gguf.reader import DEFAULT_ALIGNMENT, MAGIC
from parakit.common.files import write_array

VERSION = 3
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_KIND_NUMBERS = {name: number for number, name in KIND_NAMES.items()}


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor to write: its shape as numpy has it (rows first), and how it is quantized."""

    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def n_bytes(self) -> int:
        per_block, block_bytes, _ = BLOCKS[self.kind]
        return math.prod(self.shape) // per_block * block_bytes


def write_gguf(
    file: IO[bytes], metadata: Mapping[str, Any], plans: Sequence[TensorPlan], data: Iterable[Bytes]
) -> None:
    """Write a whole file. Metadata: counts, numbers, booleans, strings and lists of one of these. `data` gives the bytes of
    each tensor in the order of `plans`.
    """
    header = [MAGIC, struct.pack("<IQQ", VERSION, len(plans), len(metadata))]
    header += [_string(key) + _typed(value) for key, value in metadata.items()]
    offset = 0
    for plan in plans:
        sizes = struct.pack(f"<I{len(plan.shape)}Q", len(plan.shape), *reversed(plan.shape))
        header.append(_string(plan.name) + sizes + struct.pack("<IQ", _KIND_NUMBERS[plan.kind], offset))
        offset += plan.n_bytes + _padding(plan.n_bytes)
    joined = b"".join(header)
    file.write(joined + b"\0" * _padding(len(joined)))
    for plan, packed in zip(plans, data, strict=True):
        assert packed.nbytes == plan.n_bytes, plan
        write_array(file, packed)
        file.write(b"\0" * _padding(plan.n_bytes))


def _padding(n_bytes: int) -> int:
    return -n_bytes % DEFAULT_ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(value: Any) -> bytes:
    """A value with the number of its type before it."""
    if isinstance(value, list):
        kind, content = _array(value)
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + content
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    return struct.pack("<I", _STRING) + _string(value)


def _array(values: list[Any]) -> tuple[int, bytes]:
    if all(isinstance(value, str) for value in values):
        return _STRING, b"".join(map(_string, values))
    if all(isinstance(value, bool) for value in values):
        return _BOOL, np.array(values, np.bool_).tobytes()
    if all(isinstance(value, int) for value in values):
        return _INT32, np.array(values, "<i4").tobytes()
    return _FLOAT32, np.array(values, "<f4").tobytes()
