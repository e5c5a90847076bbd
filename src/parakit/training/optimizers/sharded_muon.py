"""Muon for matrices that are spread over processes: each process makes the whole steps of some of them.

Momentum is kept in parts, as the weights are. An update needs the whole matrix, so a matrix's parts are sent to one process,
made orthogonal there, and sent back: every process does its share of the work, and holds one whole matrix at a time. The
numbers are those of `Muon`. A stack of experts that is spread by whole experts needs no exchange.

Shapes: R rows, C columns, E experts, P processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from parakit.training.optimizers.muon import orthogonalize
from parakit.training.parallel.engine import local


@dataclass(frozen=True)
class Parts:
    """Where the processes of a group hold a matrix: the rows and columns of each."""

    group: Any
    rank: int
    boxes: tuple[tuple[slice, slice], ...]  # by rank of the group

    def numel(self, rank: int) -> int:
        """Elements that a process holds."""
        rows, columns = self.boxes[rank]
        return int((rows.stop - rows.start) * (columns.stop - columns.start))


class ShardedMuon:
    """The optimizer for weights (R, C), or stacks of them (E, R, C), as DTensors. `learning_rate` may be changed between
    steps.
    """

    def __init__(
        self,
        named_weights: Iterable[tuple[str, Any]],
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.named = list(named_weights)
        self.buffers = [torch.zeros_like(weight) for _, weight in self.named]
        self.groups: dict[Any, list[int]] = {}
        for number, (_, weight) in enumerate(self.named):
            placed = str(weight.placements) if weight.ndim == 2 else number
            self.groups.setdefault((tuple(weight.shape), weight.device_mesh, placed), []).append(number)
        self.parts = {key: parts_of(self.named[numbers[0]][1]) for key, numbers in self.groups.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Update every weight from its gradient."""
        for key, numbers in self.groups.items():
            parts = self.parts[key]
            n = 1 if parts is None else len(parts.boxes)
            for start in range(0, len(numbers), n):
                some = numbers[start : start + n]
                moments = [self._momentum(number) for number in some]
                updates = _whole_experts(moments) if parts is None else _exchanged(moments, parts, key[0])
                for number, update in zip(some, updates, strict=True):
                    self._apply(self.named[number][1], update)

    def _momentum(self, number: int) -> Tensor:
        """The Nesterov momentum of this process's part."""
        weight = self.named[number][1]
        assert weight.grad is not None, "a weight without gradient reached the optimizer"
        gradient = local(weight.grad).float()
        buffer = local(self.buffers[number]).lerp_(gradient, 1 - self.momentum)
        return gradient.lerp(buffer, self.momentum)

    def _apply(self, weight: Any, update: Tensor) -> None:
        rows, columns = weight.shape[-2:]
        own = local(weight)
        if self.weight_decay:
            own.mul_(1 - self.learning_rate * self.weight_decay)
        own.add_(update.view_as(own), alpha=-self.learning_rate * max(1.0, rows / columns) ** 0.5)

    def state_tensors(self) -> dict[str, Tensor]:
        """The momentum of every weight by name, in the weight's shape."""
        pairs = zip(self.named, self.buffers, strict=True)
        return {f"{name}.momentum": buffer for (name, _), buffer in pairs}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `state_tensors` returned."""
        for name, momentum in self.state_tensors().items():
            local(momentum).copy_(local(tensors[name]))


def parts_of(weight: DTensor) -> Parts | None:
    """Where the processes that share a matrix hold it; None for a stack of which each holds whole matrices."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, spread = weight.device_mesh, [not p.is_replicate() for p in weight.placements]
    shape, offset = compute_local_shape_and_global_offset(weight.shape, mesh, weight.placements)
    if weight.ndim == 3:
        assert tuple(shape[1:]) == tuple(weight.shape[1:]), "an expert is spread over processes"
        return None
    names = [name for name, is_spread in zip(mesh.mesh_dim_names or (), spread, strict=True) if is_spread]
    group = _group_of(mesh, tuple(names))
    own = torch.tensor([offset[0], offset[0] + shape[0], offset[1], offset[1] + shape[1]])
    found = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, own, group=group)
    boxes = [tuple(box.tolist()) for box in found]
    return Parts(group, dist.get_rank(group), tuple((slice(a, b), slice(c, d)) for a, b, c, d in boxes))


def _group_of(mesh: Any, names: tuple[str, ...]) -> Any:
    """The process group of some dimensions of a mesh."""
    if len(names) == 1:
        return mesh[names[0]].get_group()
    return mesh[names]._flatten("_".join(names)).get_group()


def _exchanged(moments: Sequence[Tensor], parts: Parts, shape: tuple[int, ...]) -> list[Tensor]:
    """The updates of this process's parts of up to P matrices: matrix i is made orthogonal by process i."""
    n, like = len(parts.boxes), moments[0]
    owned = parts.rank < len(moments)
    send = torch.cat([moment.flatten() for moment in moments])
    counts_out = [moments[i].numel() if i < len(moments) else 0 for i in range(n)]
    counts_in = [parts.numel(i) if owned else 0 for i in range(n)]
    got = like.new_empty(sum(counts_in))
    dist.all_to_all_single(got, send, counts_in, counts_out, group=parts.group)
    back = got.new_empty(0)
    if owned:
        whole = like.new_empty(shape)
        for box, part in zip(parts.boxes, got.split(counts_in), strict=True):
            whole[box] = part.view(whole[box].shape)
        update = _orthogonal(whole)
        back = torch.cat([update[box].flatten() for box in parts.boxes])
    received = like.new_empty(sum(counts_out))
    dist.all_to_all_single(received, back, counts_out, counts_in, group=parts.group)
    return list(received.split(counts_out)[: len(moments)])


def _whole_experts(moments: Sequence[Tensor]) -> list[Tensor]:
    """The updates of stacks of whole matrices."""
    return [_orthogonal(moment) if moment.numel() else moment for moment in moments]


def _orthogonal(matrix: Tensor) -> Tensor:
    """`orthogonalize` of a matrix, or of each of a stack, of any shape."""
    rows, columns = matrix.shape[-2:]
    wide = matrix if rows <= columns else matrix.mT
    update = orthogonalize(wide.reshape(-1, *wide.shape[-2:])).view(wide.shape)
    return update if rows <= columns else update.mT.contiguous()
