"""Read untrusted GGUF files: the header is checked before any weight is read.

A file is a magic number, a version, counts, metadata (typed key-value pairs), a list of tensors and their data, all
little-endian; see docs/gguf.md of the ggml project. Every length is compared with the bytes that are left, every tensor
must be inside the file, aligned, and apart from the others. Weights are memory-mapped when they are read. Left out:
versions before 2, big-endian files and files split into parts, which are refused.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parakit.checkpoints.gguf.dequantization import BLOCKS, KIND_NAMES, dequantize
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject

MAGIC, SUFFIX = b"GGUF", ".gguf"
VERSIONS = (2, 3)
MAX_KEYS, MAX_TENSORS, MAX_ARRAY, MAX_DIMENSIONS = 10_000, 200_000, 10_000_000, 4
MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_STRING_BYTES = 65_535, 256, 10_000_000
MAX_ALIGNMENT, DEFAULT_ALIGNMENT = 65_536, 32
_OLD_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg", b"ggml", b"ggmf", b"ggjt")
_FLOAT32, _BOOL, _STRING, _ARRAY = 6, 7, 8, 9
_NUMBERS = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", _FLOAT32: "<f"},
    **{_BOOL: "<B", 10: "<Q", 11: "<q", 12: "<d"},
}
_HINT = "the file is cut short or damaged: fetch it again"


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """One tensor: its shape as numpy has it (rows first), the name of its quantization, and its bytes in the file."""

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int
    stop: int


@dataclass(frozen=True)
class GGUFFile:
    """A checked header: metadata by key, and the tensors by name in the order of the file."""

    path: Path
    metadata: JsonObject
    tensors: Mapping[str, GGUFTensor]

    def weights(self, name: str) -> np.ndarray:
        """One tensor, dequantized to float32."""
        tensor = self.tensors[name]
        raw = np.memmap(self.path, np.uint8, "r", offset=tensor.start, shape=(tensor.stop - tensor.start,))
        return dequantize(raw, tensor.kind).reshape(tensor.shape)


def is_gguf(path: str | Path) -> bool:
    """Whether `path` is a file that is called .gguf or begins as one."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return path.suffix.lower() == SUFFIX or file.read(4) == MAGIC


def read_gguf(path: str | Path) -> GGUFFile:
    """Read and check a file's header. Raises `CorruptArtifact` naming the first fault, `UserError` for a file of a kind
    that is not supported.
    """
    path = Path(path)
    size = path.stat().st_size
    if size < 24:
        raise CorruptArtifact(f"{path}: has {size} bytes, and a GGUF file has at least 24", _HINT)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(path, data, size)
        _check_version(path, cursor)
        n_tensors = cursor.count("tensors", MAX_TENSORS)
        n_keys = cursor.count("metadata keys", MAX_KEYS)
        metadata = _read_metadata(cursor, n_keys)
        _check_whole(path, metadata)
        alignment = _alignment(path, metadata)
        entries = [_read_entry(cursor) for _ in range(n_tensors)]
        data_start = -(-cursor.position // alignment) * alignment
    tensors = [_place(path, *entry, data_start, alignment, size) for entry in entries]
    _check_layout(path, tensors)
    return GGUFFile(path, metadata, {tensor.name: tensor for tensor in tensors})


class _Cursor:
    """A position in the file that never passes its end."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size, self.position = path, data, size, 0

    def take(self, n_bytes: int, what: str) -> bytes:
        """The next bytes."""
        if n_bytes > self.size - self.position:
            raise CorruptArtifact(
                f"{self.path}: {what} at byte {self.position} takes {n_bytes} bytes, and "
                f"{self.size - self.position} are left",
                _HINT,
            )
        self.position += n_bytes
        return self.data[self.position - n_bytes : self.position]

    def number(self, layout: str, what: str) -> Any:
        """The next number, in `struct`'s notation."""
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))[0]

    def count(self, what: str, limit: int) -> int:
        """A 64-bit count of at most `limit`."""
        n = int(self.number("<Q", f"the number of {what}"))
        if n > limit:
            raise CorruptArtifact(f"{self.path}: claims {n} {what}; {limit} is the limit", _HINT)
        return n

    def string(self, what: str, limit: int) -> str:
        """A string with its length before it."""
        raw = self.take(self.count(f"bytes for {what}", limit), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorruptArtifact(f"{self.path}: {what} is not UTF-8: {error}", _HINT) from None


def _check_version(path: Path, cursor: _Cursor) -> None:
    magic = cursor.take(4, "the magic number")
    if magic in _OLD_MAGICS:
        raise UserError(
            f"{path}: begins with {magic!r}, a format of llama.cpp from before GGUF",
            "fetch a newer file of the model, or its original folder",
        )
    if magic != MAGIC:
        raise CorruptArtifact(f"{path}: begins with {magic!r}, not {MAGIC!r}", "it is no GGUF file")
    version = int(cursor.number("<I", "the version"))
    if version & 0xFFFF == 0 and version:
        raise UserError(
            f"{path}: is big-endian (its version reads {version:#010x})",
            "fetch the little-endian file, or the model's original folder",
        )
    if version not in VERSIONS:
        raise UserError(
            f"{path}: has version {version} of GGUF; versions {' and '.join(map(str, VERSIONS))} are read",
            "fetch a newer file of the model, or its original folder",
        )


def _read_metadata(cursor: _Cursor, n_keys: int) -> JsonObject:
    metadata: JsonObject = {}
    for _ in range(n_keys):
        key = cursor.string("a metadata key", MAX_KEY_BYTES)
        if key in metadata:
            raise CorruptArtifact(f"{cursor.path}: has the metadata key {key!r} twice", _HINT)
        metadata[key] = _read_value(cursor, cursor.number("<I", f"the type of {key!r}"), key)
    return metadata


def _read_value(cursor: _Cursor, kind: int, key: str, inside: bool = False) -> Any:
    what = f"the value of {key!r}"
    if kind == _STRING:
        return cursor.string(what, MAX_STRING_BYTES)
    if kind == _ARRAY and not inside:
        inner = cursor.number("<I", f"the type of {key!r}")
        n = cursor.count(f"values of {key!r}", MAX_ARRAY)
        if inner not in _NUMBERS:
            return [_read_value(cursor, inner, key, inside=True) for _ in range(n)]
        layout = np.dtype(_NUMBERS[inner])
        values = np.frombuffer(cursor.take(n * layout.itemsize, what), layout)
        return (values != 0 if inner == _BOOL else values).tolist()
    if kind not in _NUMBERS:
        fault = "is an array of arrays" if kind == _ARRAY else f"has the type {kind}"
        raise CorruptArtifact(
            f"{cursor.path}: {what} {fault}, which is not supported",
            "known types: numbers, booleans, "
            "strings, and arrays of these; if the file is damaged, fetch it again",
        )
    value = cursor.number(_NUMBERS[kind], what)
    if kind == _FLOAT32:  # the shortest number that rounds to it, as the publisher wrote it: 1e-05
        return float(str(np.float32(value)))
    return bool(value) if kind == _BOOL else value


def _check_whole(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse a part of a split file, and files that hold something else than a model."""
    n_parts = metadata.get("split.count", 0)
    if n_parts not in (0, 1):
        raise UserError(
            f"{path}: is part {metadata.get('split.no', 0)!r} of a file split into {n_parts!r}",
            f"join them first: llama-gguf-split --merge {path} WHOLE.gguf",
        )
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise UserError(
            f"{path}: holds something of type {kind!r}, not a model", "name the GGUF file of the model itself"
        )


def _alignment(path: Path, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise CorruptArtifact(
            f"{path}: `general.alignment` is {alignment!r}; a power of two up to {MAX_ALIGNMENT} is allowed",
            _HINT,
        )
    return alignment


def _read_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape (as numpy has it), number of the quantization, and offset of one tensor."""
    name = cursor.string("a tensor's name", MAX_NAME_BYTES)
    n_dimensions = int(cursor.number("<I", f"the number of dimensions of {name!r}"))
    if not 0 < n_dimensions <= MAX_DIMENSIONS:
        raise CorruptArtifact(
            f"{cursor.path}: tensor {name!r} has {n_dimensions} dimensions; 1 to {MAX_DIMENSIONS} are allowed",
            _HINT,
        )
    sizes = [int(cursor.number("<Q", f"the shape of {name!r}")) for _ in range(n_dimensions)]
    kind = int(cursor.number("<I", f"the quantization of {name!r}"))
    offset = int(cursor.number("<Q", f"the offset of {name!r}"))
    return name, tuple(reversed(sizes)), kind, offset


def _place(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    number: int,
    offset: int,
    data_start: int,
    alignment: int,
    size: int,
) -> GGUFTensor:
    """A tensor with its bytes in the file."""
    kind = KIND_NAMES.get(number)
    if kind not in BLOCKS:
        raise UserError(
            f"{path}: tensor {name!r} is quantized as {kind or f'number {number}'}, which Parakit does not read",
            f"fetch the model in one of: {', '.join(BLOCKS)}",
        )
    per_block, block_bytes, _ = BLOCKS[kind]
    if min(shape) < 1 or shape[-1] % per_block:
        raise CorruptArtifact(
            f"{path}: tensor {name!r} has shape {shape}, and {kind} stores rows in blocks of {per_block}",
            _HINT,
        )
    n_bytes = math.prod(shape) // per_block * block_bytes
    start = data_start + offset
    if offset % alignment or start + n_bytes > size:
        fault = f"not a multiple of {alignment}" if offset % alignment else f"and the file has {size} bytes"
        raise CorruptArtifact(
            f"{path}: tensor {name!r} takes {n_bytes} bytes at {start} (offset {offset}), {fault}", _HINT
        )
    return GGUFTensor(name, shape, kind, start, start + n_bytes)


def _check_layout(path: Path, tensors: list[GGUFTensor]) -> None:
    """Names are unique, and no byte belongs to two tensors."""
    if not tensors:
        raise UserError(f"{path}: holds no tensors", "name the GGUF file of a model, not of a vocabulary")
    seen: set[str] = set()
    end = 0
    for tensor in sorted(tensors, key=lambda one: one.start):
        if tensor.name in seen:
            raise CorruptArtifact(f"{path}: holds two tensors called {tensor.name!r}", _HINT)
        if tensor.start < end:
            raise CorruptArtifact(
                f"{path}: tensor {tensor.name!r} starts at byte {tensor.start}, inside the one before it",
                _HINT,
            )
        seen.add(tensor.name)
        end = tensor.stop
