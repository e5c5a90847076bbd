"""Training state of many processes: each writes its parts, by `torch.distributed.checkpoint`, while training goes on.

The files are safetensors (`HuggingFaceStorageWriter` with the offsets of each part), so nothing is pickled, and they load into
any layout: one process or many, with other parts. A save copies the parts, which is all that a step waits for; a thread writes
them, in a process group of its own. A run whose model is too large for a copy writes while the step waits. The folder is an
artifact that the first process finishes when all parts are there.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.processes import from_first, is_first
from parakit.training.parallel.engine import local

STATE = "state.json"
FILE_BYTES = 64 * 2**20  # from which on a process begins another file


class ShardWriter:
    """Writes the checkpoints of a run one after another, in the background or (`copies` False) while the step waits."""

    def __init__(self, copies: bool = True) -> None:
        self.copies = copies
        self.group = dist.new_group(backend="gloo")
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def save(
        self,
        path: Path,
        lineage: Lineage,
        tensors: Mapping[str, Tensor],
        state: JsonObject,
        after: Callable[[], None],
    ) -> None:
        """Write `tensors` and `state` to the artifact `path`, and call `after` in the first process. Returns when the parts
        of this process are copied or written; an error is raised by the next `save` or `wait`.
        """
        self.wait()
        parts = {
            name: _copied(tensor) if self.copies else tensor.detach()
            for name, tensor in tensors.items()
            if tensor.ndim
        }

        def write() -> None:
            try:
                self._write(path, lineage, parts, state)
                if is_first():
                    after()
            except BaseException as error:
                self.error = error

        if not self.copies:
            write()
            self.wait()
            return
        self.thread = threading.Thread(target=write, name=path.name, daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Return when the last save is on the disk; raises what went wrong in it."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if self.error is not None:
            error, self.error = self.error, None
            failures = getattr(error, "failures", {})  # of each process that could not write
            raise next((found for found, _ in failures.values() if isinstance(found, OSError)), error)

    def _write(self, path: Path, lineage: Lineage, tensors: dict[str, Tensor], state: JsonObject) -> None:
        with contextlib.ExitStack() as stack:
            name = from_first(
                "checkpoint folder",
                lambda: str(stack.enter_context(writing_artifact(path, lineage, overwrite=True))),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of PyTorch's own, about what it deprecates in itself
                writer = HuggingFaceStorageWriter(name, _files_of(tensors), save_distributed=True)
                dcp.save(tensors, storage_writer=writer, process_group=self.group)
            if is_first():
                write_json_atomic(Path(name) / STATE, state)


def _files_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of the file, from 1, that a process writes its part of each tensor to: PyTorch builds a file in memory."""
    files, number, n_bytes = {}, 1, 0
    for name, tensor in tensors.items():
        if n_bytes >= FILE_BYTES * dist.get_world_size():
            number, n_bytes = number + 1, 0
        files[name] = number
        n_bytes += tensor.numel() * tensor.element_size()
    return files


def load_shards(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors`, in whatever parts this process holds, from a checkpoint of any number of processes."""
    wanted: dict[str, Any] = {name: tensor for name, tensor in tensors.items() if tensor.ndim}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(
            wanted,
            storage_reader=HuggingFaceStorageReader(str(path)),
            no_dist=not dist.is_initialized(),
        )


def _copied(tensor: Any) -> Any:
    """A tensor, or its part, in memory of its own on the host."""
    own = local(tensor.detach())
    copy = (
        own.to("cpu", copy=True)
        if own.device.type != "cpu"
        else own.clone(memory_format=torch.contiguous_format)
    )
    if not hasattr(tensor, "placements"):
        return copy.contiguous()
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        copy.contiguous(),
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )
