"""Read untrusted safetensors files, and write them: a header is checked before any data is read.

The format is eight bytes of header length, a JSON header of `name -> dtype, shape, data_offsets`, and the raw data.
Every tensor must be inside the file, have as many bytes as its shape and dtype require, and adjoin its neighbours
without gap or overlap. Tensors are then memory-mapped and yielded one at a time, so that peak memory is the model plus
one tensor.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from parakit.checkpoints.folder_safety import read_small_json, regular_file
from parakit.checkpoints.wrapper_names import without_wrappers
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, is_plain_name, os_error, write_json_atomic
from parakit.common.json_reading import shown

if TYPE_CHECKING:
    import torch

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER_BYTES, MAX_COLONS = 25_000_000, 500_000  # a tensor has four keys, and its name
WEIGHT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
DTYPE_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
_HINT = "the file is damaged or was not written as safetensors: fetch it again"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """The location of a tensor: `name` in `file`, at the bytes `start` to `stop` of its data."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: str | Path) -> dict[str, TensorEntry]:
    """Check one safetensors file's header against the file's size and return its tensors in the order of
    their bytes.

    Raises `CorruptArtifact` naming the file and the first fault.
    """
    path = Path(path)
    n_file = path.stat().st_size
    with open(path, "rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        if n_file < 8 or n_header > n_file - 8:
            raise CorruptArtifact(
                f"{path}: has {n_file} bytes, and its header alone claims {n_header} after the first 8", _HINT
            )
        if n_header > MAX_HEADER_BYTES:
            raise CorruptArtifact(
                f"{path}: its header claims {n_header} bytes; {MAX_HEADER_BYTES} is the limit", _HINT
            )
        raw = file.read(n_header)
    entries = [
        (name, _entry(path, name, value))
        for name, value in _parse_header(path, raw).items()
        if name != "__metadata__"
    ]
    entries.sort(key=lambda item: (item[1].start, item[1].stop))
    _check_layout(path, entries, n_file - 8 - n_header)
    return dict(entries)


def folder_tensors(folder: str | Path) -> dict[str, TensorEntry]:
    """All tensors of a model folder, whether in one file or in shards with an index, without the names of wrappers. Every
    file named must lie in the folder itself.
    """
    folder = Path(folder)
    return without_wrappers(folder, _stored_tensors(folder))


def _stored_tensors(folder: Path) -> dict[str, TensorEntry]:
    if not (folder / INDEX).is_file():
        return read_header(regular_file(folder, SINGLE))
    weight_map = read_small_json(regular_file(folder, INDEX)).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CorruptArtifact(f"{folder / INDEX}: has no `weight_map` of tensor names to file names", _HINT)
    entries: dict[str, TensorEntry] = {}
    by_shard: dict[str, set[str]] = {}
    for tensor, shard in weight_map.items():
        by_shard.setdefault(shard, set()).add(tensor)
    for shard in sorted(by_shard):
        if not is_plain_name(shard) or "/" in shard:
            raise UserError(
                f"{folder / INDEX}: names the shard {shown(shard)}, which is no file of the folder",
                "only files of the folder itself are read",
            )
        found = read_header(regular_file(folder, shard))
        indexed = by_shard[shard]
        if missing := sorted(indexed - found.keys()):
            raise CorruptArtifact(
                f"{folder / shard}: lacks the tensor {missing[0]!r} that {INDEX} promises", _HINT
            )
        if extra := sorted(found.keys() - indexed):
            raise CorruptArtifact(
                f"{folder / shard}: holds the tensor {extra[0]!r} that {INDEX} does not name", _HINT
            )
        entries |= found
    return entries


def read_tensors(
    entries: Mapping[str, TensorEntry], device: str | torch.device = "cpu"
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (key of `entries`, tensor) from memory-mapped files, one at a time. On the CPU a tensor is a view of the
    file: copy it, never write to it.
    """
    from safetensors import SafetensorError, safe_open

    by_file: dict[Path, list[tuple[str, str]]] = {}
    for name, entry in entries.items():
        by_file.setdefault(entry.file, []).append((name, entry.name))
    for path, names in by_file.items():
        _read_ahead(path)
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                for name, stored in names:
                    yield name, file.get_tensor(stored)
        except SafetensorError as error:
            raise CorruptArtifact(f"{path}: {error}", _HINT) from None


def _read_ahead(path: Path) -> None:
    """Request the whole file at once: reading a mapping page by page is slow on a cold disk."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file, contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def write_weight_shards(
    tensors: Iterable[tuple[str, torch.Tensor]], folder: str | Path, max_shard_bytes: int
) -> None:
    """Write a folder's weights: one file where they fit into `max_shard_bytes`, else several and an index. Only
    one shard's tensors are in memory at a time.
    """
    folder = Path(folder)
    shards: list[list[str]] = []
    shard: dict[str, torch.Tensor] = {}
    n_shard = n_total = n_params = 0

    def write() -> None:
        write_tensors(shard, folder / f"{len(shards)}.part")
        shards.append(list(shard))
        shard.clear()

    for name, tensor in tensors:
        if shard and n_shard + tensor.nbytes > max_shard_bytes:
            write()
            n_shard = 0
        shard[name] = tensor
        n_shard += tensor.nbytes
        n_total += tensor.nbytes
        n_params += tensor.numel()
    write()
    name_shards(folder, shards, n_params, n_total)


def name_shards(folder: Path, shards: list[list[str]], n_params: int, n_total: int) -> None:
    """Give the files `0.part`, `1.part` of a folder, which hold tensors of these names, their names and an index."""
    if len(shards) == 1:
        os.replace(folder / "0.part", folder / SINGLE)
        return
    files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for i, file in enumerate(files):
        os.replace(folder / f"{i}.part", folder / file)
    weight_map = {name: file for names, file in zip(shards, files, strict=True) for name in names}
    metadata = {"total_parameters": n_params, "total_size": n_total}
    write_json_atomic(folder / INDEX, {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))})


def write_tensors(tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Write one safetensors file as transformers expects it. The same tensors give the same bytes. A full disk is an
    `OSError`, as anywhere else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            os.fspath(path),
            metadata={"format": "pt"},
        )
    except SafetensorError as error:
        raise os_error(str(error), path) or error from None


def _parse_header(path: Path, raw: bytes) -> JsonObject:
    if (n_names := raw.count(b":")) > MAX_COLONS:
        raise UserError(
            f"{path}: its header has {n_names} keys; {MAX_COLONS} is the limit, of {MAX_COLONS // 5} tensors",
            _HINT,
        )

    def unique(pairs: list[tuple[str, Any]]) -> JsonObject:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{path}: its header is not readable: {error}", _HINT) from None
    if not isinstance(header, dict):
        raise CorruptArtifact(f"{path}: its header is not a mapping of names to tensors", _HINT)
    return header


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    """One tensor's header entry, with its size checked."""
    fields: JsonObject = value if isinstance(value, dict) else {}
    shape, offsets, dtype = fields.get("shape"), fields.get("data_offsets"), fields.get("dtype")
    if not (_are_naturals(shape) and _are_naturals(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise CorruptArtifact(f"{path}: tensor {name!r} has no proper dtype, shape and data_offsets", _HINT)
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise UserError(
            f"{path}: tensor {name!r} has the dtype {value['dtype'][:40]!r}",
            f"known dtypes: {', '.join(DTYPE_BITS)}",
        )
    start, stop = offsets
    n_bytes = math.prod(shape) * bits // 8
    if stop - start != n_bytes:
        raise CorruptArtifact(
            f"{path}: tensor {name!r} of shape {tuple(shape)} and dtype {value['dtype']} takes {n_bytes} "
            f"bytes, its offsets {start} to {stop} do not",
            _HINT,
        )
    return TensorEntry(path, name, dtype, tuple(shape), start, stop)


def _are_naturals(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list) and len(value) <= 64 and all(type(n) is int and 0 <= n < 2**63 for n in value)
    )


def _check_layout(path: Path, entries: list[tuple[str, TensorEntry]], n_data: int) -> None:
    """Tensors follow each other from byte 0 to the end of the file."""
    end = 0
    for name, entry in entries:
        if entry.start != end:
            fault = "overlaps the tensor before it" if entry.start < end else "leaves a gap before it"
            raise CorruptArtifact(
                f"{path}: tensor {name!r} starts at byte {entry.start} of the data, where {end} was due: "
                f"it {fault}",
                _HINT,
            )
        end = entry.stop
    if end != n_data:
        raise CorruptArtifact(f"{path}: its tensors take {end} bytes, and {n_data} follow the header", _HINT)
