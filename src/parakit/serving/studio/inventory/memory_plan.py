"""What a model will take, before anything of it is loaded: parameters, and memory to import it and to answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from parakit.checkpoints.gguf.reader import is_gguf, read_gguf
from parakit.checkpoints.hub import hub_name
from parakit.checkpoints.loading import parameter_counts, read_config
from parakit.common.errors import UserError
from parakit.common.hardware import available_memory
from parakit.planning.memory import cache_bytes
from parakit.planning.run_memory import run_bytes
from parakit.planning.runs import RunSpec
from parakit.serving.studio.inventory.finding import folder_bytes

MAX_CONTEXT = 4096  # tokens for which the cache is planned, or the model's own context
FLOAT_BYTES = 4


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes; `parts` of the peak by name. `n_parameters` is 0 where nothing is known before the download."""

    source: str
    n_parameters: int = 0
    disk_bytes: int = 0
    peak_bytes: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    context: int = 0
    available_bytes: int | None = None
    note: str = ""

    @property
    def fits(self) -> bool:
        """Whether the peak is within what is free now; true where either is not known."""
        return not self.peak_bytes or self.available_bytes is None or self.peak_bytes <= self.available_bytes


def plan_memory(source: str) -> MemoryPlan:
    """Of a model folder, a GGUF file, or a name on the hub, which is not looked up. `UserError` for another source."""
    source = source.strip()
    if not source:
        raise UserError("no model is named", "give a folder, a GGUF file or a name on the hub")
    if hub_name(source) is not None:
        note = "A model of the hub: it is downloaded first, and its size is known then."
        return MemoryPlan(source, available_bytes=available_memory(), note=note)
    path = Path(source)
    return _of_gguf(path) if is_gguf(path) else _of_folder(path)


def _of_folder(path: Path) -> MemoryPlan:
    config = read_config(path)
    context = min(config.max_seq_len, MAX_CONTEXT)
    spec = RunSpec(config, "inference", seq_len=context, n_rows=1, micro_batch_size=1)
    planned = run_bytes(spec)
    return MemoryPlan(
        str(path),
        parameter_counts(path)["total"],
        folder_bytes(path),
        planned.peak,
        tuple(planned.parts().items()),
        context if cache_bytes(config, 2) else 0,
        available_memory(),
    )


def _of_gguf(path: Path) -> MemoryPlan:
    n = sum(math.prod(tensor.shape) for tensor in read_gguf(path).tensors.values())
    weights = n * FLOAT_BYTES
    note = "The import writes the weights as float32; it reads them once, tensor by tensor, and then checks the whole."
    return MemoryPlan(
        str(path), n, path.stat().st_size, weights, (("weights", weights),), 0, available_memory(), note
    )
