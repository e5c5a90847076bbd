"""How the processes of a run are laid out: the sizes of the mesh, as they are set or derived. Imports no torch.

The mesh has the dimensions of PyTorch's own: `data` processes hold the same weights and read different rows; `shard`
processes read different rows too and hold a part of the weights, gradients and moments each (FSDP, Rajbhandari et al. 2020,
"ZeRO", stage 3); `tensor` processes read the same rows and hold a part of each matrix (Shoeybi et al. 2019, "Megatron-LM").
`expert` of those that read different rows share the experts of a layer among them (Lepikhin et al. 2020, "GShard").
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from parakit.common.errors import UserError

BYTES_PER_PARAMETER = 16  # weight, gradient and two moments in float32
USABLE = 0.6  # of the memory, for these; the rest is for activations


@dataclass(frozen=True)
class Layout:
    """Processes by dimension of the mesh, the outermost first; their product is the number of processes."""

    data: int = 1
    shard: int = 1
    tensor: int = 1
    expert: int = 1
    """Of the `data` x `shard` processes: no dimension of its own."""

    @property
    def n_processes(self) -> int:
        """How many processes it takes."""
        return self.data * self.shard * self.tensor

    @property
    def n_shares(self) -> int:
        """How many parts the rows of a step are dealt in."""
        return self.data * self.shard

    @property
    def splits_weights(self) -> bool:
        """Whether a process holds a part of the weights only."""
        return self.n_processes > self.data or self.expert > 1

    def describe(self) -> str:
        """The sizes, for people."""
        named = [f"{name} {value}" for name, value in vars(self).items() if value > 1]
        return f"{self.n_processes} processes: {', '.join(named) or 'one'}"


NAMES = (*(field.name for field in fields(Layout)), "context")


def parse_parallel(value: Any) -> str:
    """`parallel` as a user writes it (auto, `shard=2,tensor=2`, or a mapping) in its plain form; a `UserError` names what
    is wrong.
    """
    if isinstance(value, dict):
        value = ",".join(f"{name}={size}" for name, size in value.items())
    text = str(value).replace(" ", "")
    if text != "auto":
        sizes_of(text)
    return text


def sizes_of(parallel: str) -> dict[str, int]:
    """The sizes that are set, by dimension; empty for `auto`. A name without a size (`shard`) is 0: all that are left."""
    if parallel == "auto":
        return {}
    sizes: dict[str, int] = {}
    for part in parallel.split(","):
        found = re.fullmatch(r"([a-z]+)(?:=([0-9]+))?", part)
        if not found or found[1] not in NAMES or found[1] in sizes or found[2] == "0":
            raise UserError(
                f"parallel = {parallel!r}: {part!r} is no dimension with a size",
                f"set auto, or sizes of {', '.join(NAMES)} such as shard=2,tensor=2",
            )
        sizes[found[1]] = int(found[2] or 0)
    if sizes.get("context", 1) != 1:
        raise UserError(
            f"parallel = {parallel!r}: a sequence cannot be split over processes here",
            "PyTorch splits attention over processes on CUDA only, without document masks: leave context out, and set"
            " gradient_checkpointing to on for long sequences",
        )
    sizes.pop("context", None)
    return sizes


def choose_layout(
    parallel: str, n_processes: int, n_parameters: int, memory: int | None, n_rows: int
) -> Layout:
    """The layout of a run. `auto`: data parallel where weights, gradients and moments fit into the `memory` (bytes) of a
    process, else sharded over as few processes as hold them. `n_rows`: of a step, which have to be enough.
    """
    sizes = sizes_of(parallel)
    open_ones = [name for name, size in sizes.items() if size == 0 and name != "expert"]
    known = math.prod(size for name, size in sizes.items() if size and name != "expert")
    if n_processes % known or len(open_ones) > 1 or (sizes and not open_ones and known > n_processes):
        raise UserError(
            f"parallel = {parallel!r} is for a multiple of {known} processes, and there are {n_processes}",
            f"start {known} processes (torchrun --nproc-per-node {known}), or set parallel to auto",
        )
    left = n_processes // known
    if open_ones:
        sizes[open_ones[0]] = left
    elif "data" not in sizes and sizes.keys() & {"shard", "tensor"}:
        sizes["data"] = left
    elif "data" in sizes and left > 1:
        raise UserError(
            f"parallel = {parallel!r} is for {known} processes, and there are {n_processes}",
            f"start {known} processes, leave one of the sizes open (shard instead of shard=2), or set parallel to auto",
        )
    elif "data" not in sizes:
        sizes |= _derived(left, n_parameters, memory)
    if sizes.get("expert") == 0:
        sizes["expert"] = sizes.get("data", 1) * sizes.get("shard", 1)
    layout = replace(Layout(), **sizes)
    _check(layout, n_rows, parallel)
    return layout


def _derived(n_processes: int, n_parameters: int, memory: int | None) -> dict[str, int]:
    """Sizes of data and shard for `n_processes`."""
    needed = n_parameters * BYTES_PER_PARAMETER
    if memory is None or needed <= USABLE * memory:
        return {"data": n_processes}
    divisors = [n for n in range(2, n_processes + 1) if n_processes % n == 0]
    enough = [n for n in divisors if needed <= USABLE * memory * n]
    shard = enough[0] if enough else n_processes
    return {"data": n_processes // shard, "shard": shard}


def _check(layout: Layout, n_rows: int, parallel: str) -> None:
    if layout.n_shares > n_rows:
        raise UserError(
            f"parallel = {parallel!r}: {layout.n_shares} processes read rows of their own, and a step has {n_rows} rows",
            f"raise batch_tokens or batch_examples to {layout.n_shares} rows at least, or start fewer processes",
        )
    if layout.n_shares % layout.expert:
        raise UserError(
            f"parallel = {parallel!r}: expert = {layout.expert} does not divide the {layout.n_shares} processes that read"
            " rows of their own",
            "set it to a divisor of data x shard",
        )
