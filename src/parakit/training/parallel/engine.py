"""What the loop and the trainer need to know of other processes: what is shared, summed and decided together.

`TrainingEngine` is a run in one process, in which each of these is nothing; `process_engine.py` has those of many.
The loss of a step is the sum over the counted tokens of all processes, divided by their number in all processes, whatever
each of them has of either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from parakit.common.artifacts import Lineage
from parakit.common.files import JsonObject
from parakit.model.heads import TransformerModel
from parakit.training.micro_batches import Objective
from parakit.training.parallel.rows import RowRange, deal_rows

Value = TypeVar("Value")
MIN_EXCESS = 1e-5  # more than the 1e-6 that PyTorch adds to a norm before it divides


class TrainingEngine:
    """A run in one process."""

    gradient_scale = 1.0
    """What a loss is multiplied by because gradients are averaged afterwards."""
    runs_empty = False
    """Whether a micro-batch without counted tokens passes the network too: its collectives are those of all processes."""
    is_distributed = False
    """Whether there are several processes."""
    is_sharded = False
    """Whether a process holds a part of the weights only."""
    in_parts = False
    """Whether no process ever holds all the weights: measuring and writing are work of all of them."""
    is_first = True
    """Whether this process writes what the run writes."""

    def attach(self, model: TransformerModel, objective: Objective, device: torch.device) -> Objective:
        """Place `model` on the processes and `device` in place; returns the objective that trains it."""
        model.to(device)
        return objective

    def deal(self, first: int, n_rows: int, micro_batch_size: int) -> list[RowRange]:
        """The micro-batches of this process in a step of `n_rows` rows from row `first` on."""
        return deal_rows(first, n_rows, micro_batch_size)

    def begin_step(self, step: int, seed: int) -> None:
        """Called before the first forward pass of `step`."""

    def accumulating(self, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """The context of a micro-batch; gradients are reduced in the last one of a step only."""
        return contextlib.nullcontext()

    def finish_gradients(self) -> None:
        """Called after the last backward pass of a step."""

    def total(self, *values: float) -> list[float]:
        """The sum of each value over the processes that have rows of their own."""
        return list(values)

    def sum_figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The sum of each figure over all processes, of which each may lack some."""
        return dict(figures)

    def clip(self, parameters: Sequence[Tensor], grad_clip: float) -> float:
        """Scale all gradients so that their total norm is at most `grad_clip` (0: no clipping); return the norm before."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return 0.0
        norm = torch.nn.utils.get_total_norm(gradients)
        on_cpu = norm.device.type == "cpu"  # where looking at the norm waits for nothing
        if grad_clip and not (
            on_cpu and float(norm) <= grad_clip - MIN_EXCESS
        ):  # else all would be multiplied by 1
            torch.nn.utils.clip_grads_with_norm_(parameters, grad_clip, norm)
        return float(norm)

    def any_of(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process."""
        return list(flags)

    def measure(self, name: str, work: Callable[[], Value]) -> Value:
        """What `work` finds with the model in the first process, in every one: of JSON's types where there are several."""
        return work()

    def whole(self, everywhere: bool = False) -> contextlib.AbstractContextManager[object]:
        """The context in which the model is whole and plain, in the first process or in every one."""
        return contextlib.nullcontext()

    def save_parts(
        self,
        path: Path,
        lineage: Lineage,
        tensors: Mapping[str, Tensor],
        state: JsonObject,
        after: Callable[[], None],
    ) -> None:
        """Write a checkpoint of many processes, whose tensors are in parts, in the background."""
        raise AssertionError("one process writes its checkpoints itself")

    def finish_saving(self) -> None:
        """Return when what is written in the background is on the disk."""

    def release(self) -> None:
        """The run is over: the model stays whole and plain in every process."""

    def describe(self) -> str:
        """How the model and the rows are spread, for people; empty for one process."""
        return ""


ONE_PROCESS = TrainingEngine()


def local(tensor: Any) -> Tensor:
    """The part of a tensor that this process holds: all of a plain one."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part
