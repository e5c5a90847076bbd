"""A run in many processes: the model on their mesh, the rows dealt to them, sums and decisions over all of them.

Data parallel runs go through `DistributedDataParallel`, others through `fully_shard` and DTensor. Both wrap one module whose
forward pass is the objective, so that its hooks see a whole pass, whatever methods of the model the objective calls.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from parakit.checkpoints.sharded.empty_weights import allocate, fill_pending, is_pending
from parakit.common.errors import UserError
from parakit.common.processes import first_alone, from_first
from parakit.common.seeds import derive_seed
from parakit.model.heads import TransformerModel
from parakit.model.layers.experts import MixtureOfExperts
from parakit.training.micro_batches import Objective
from parakit.training.parallel.engine import TrainingEngine, Value, local
from parakit.training.parallel.layout import Layout
from parakit.training.parallel.rows import RowRange, deal_rows


class ObjectivePass(nn.Module):
    """A model with its objective: one forward pass is one loss."""

    def __init__(self, model: TransformerModel, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> Tensor:
        """The objective's sum over a micro-batch."""
        return self.objective(self.model, batch)


class ProcessEngine(TrainingEngine):
    """One of many processes that train the same model, each on its own rows. Here all hold the same weights."""

    is_distributed = runs_empty = True

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout, self.device = layout, device
        self.is_first = dist.get_rank() == 0
        self.index = dist.get_rank() // layout.tensor
        self.gradient_scale = float(
            layout.n_shares
        )  # gradients are averaged, and the loss divided by all tokens
        self.wrapped: Any = None
        self.writer: Any = None

    def attach(self, model: TransformerModel, objective: Objective, device: torch.device) -> Objective:
        """See `TrainingEngine.attach`; every process starts with the first one's weights."""
        known = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        settings: dict[str, Any] = {buffers: False, "gradient_as_bucket_view": True}
        self.wrapped = DistributedDataParallel(ObjectivePass(model.to(device), objective), **settings)
        return lambda model, batch: self.wrapped(batch)

    def deal(self, first: int, n_rows: int, micro_batch_size: int) -> list[RowRange]:
        """See `TrainingEngine.deal`."""
        return deal_rows(first, n_rows, micro_batch_size, self.index, self.layout.n_shares)

    def begin_step(self, step: int, seed: int) -> None:
        """Dropout is a function of seed, step and share, as the rows are: a resumed run draws it again."""
        torch.manual_seed(derive_seed(seed, "dropout", step, self.index) & (2**63 - 1))

    def accumulating(self, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """See `TrainingEngine.accumulating`."""
        return contextlib.nullcontext() if is_last else self.wrapped.no_sync()

    def total(self, *values: float) -> list[float]:
        """See `TrainingEngine.total`; every process holds the same sums."""
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return (summed / self.layout.tensor).tolist()  # processes that share matrices read the same rows

    def sum_figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """See `TrainingEngine.sum_figures`."""
        found: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(found, dict(figures))
        names = sorted({name for one in found for name in one})
        return {name: sum(one.get(name, 0.0) for one in found) for name in names}

    def any_of(self, *flags: bool) -> list[bool]:
        """See `TrainingEngine.any_of`."""
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found]

    def measure(self, name: str, work: Callable[[], Value]) -> Value:
        """See `TrainingEngine.measure`: the others wait."""
        return first_alone(name, work)

    def save_parts(self, *arguments: Any) -> None:
        """See `TrainingEngine.save_parts`."""
        from parakit.training.parallel.checkpoint import ShardWriter

        self.writer = self.writer or ShardWriter(copies=not self.in_parts)
        self.writer.save(*arguments)

    def finish_saving(self) -> None:
        """See `TrainingEngine.finish_saving`."""
        if self.writer is not None:
            self.writer.wait()

    def release(self) -> None:
        """See `TrainingEngine.release`."""
        self.finish_saving()
        self.wrapped = None

    def describe(self) -> str:
        """See `TrainingEngine.describe`."""
        return self.layout.describe()


class ShardedEngine(ProcessEngine):
    """One of many processes that hold parts of the weights, their gradients and their moments."""

    is_sharded = True

    def __init__(self, layout: Layout, device: torch.device, offload: bool = False) -> None:
        from parakit.training.parallel.sharding import make_mesh

        super().__init__(layout, device)
        self.mesh, self.offload = make_mesh(layout, device), offload
        self.summed: list[nn.Module] = []
        self.of_experts: DeviceMesh | None = None
        self.experts: list[MixtureOfExperts] = []

    def attach(self, model: TransformerModel, objective: Objective, device: torch.device) -> Objective:
        """See `TrainingEngine.attach`; a block at a time goes to the device, in parts."""
        from parakit.training.parallel.sharding import same_start, shard_model
        from parakit.training.parallel.tensor_parallel import split_matrices

        self.in_parts = is_pending(model)
        if not self.in_parts:
            same_start(model)
        blocks = list(model.trunk.blocks)
        if self.layout.tensor > 1:
            self.summed = split_matrices(model, blocks, self.mesh["tensor"])
        self._spread_experts(blocks)
        root = ObjectivePass(model, objective)
        self.wrapped = shard_model(root, blocks, self.layout, self.mesh, self.offload, self.of_experts)
        if self.in_parts:
            place = torch.device("cpu") if self.offload else device
            allocate(self.wrapped, place)
            self.wrapped._apply(lambda tensor: tensor)  # PyTorch takes note of the new parts
            fill_pending(model)
        model.to(device)  # what is in no part: buffers
        return lambda model, batch: self.wrapped(batch)

    def accumulating(self, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """See `TrainingEngine.accumulating`."""
        self.wrapped.set_requires_gradient_sync(is_last)
        self.wrapped.set_is_last_backward(is_last)
        return contextlib.nullcontext()

    def finish_gradients(self) -> None:
        """See `TrainingEngine.finish_gradients`."""
        if self.summed:
            from parakit.training.parallel.tensor_parallel import sum_parts

            sum_parts(self.summed, self.mesh["tensor"])
        for (
            layer
        ) in self.experts:  # which have summed the tokens of the processes that share them, not averaged
            for weight in layer.parameters(recurse=False):
                if weight.grad is not None:
                    local(weight.grad).div_(self.layout.expert)

    def _spread_experts(self, blocks: list[nn.Module]) -> None:
        """Give each process its experts."""
        if self.layout.expert == 1:
            return
        from parakit.training.parallel.experts import expert_layers, spread_experts
        from parakit.training.parallel.sharding import expert_mesh

        self.experts = expert_layers(blocks)
        if not self.experts:
            raise UserError(
                f"parallel: expert = {self.layout.expert}, and the model has no experts", "leave expert out"
            )
        self.of_experts = expert_mesh(self.layout, self.device)
        for layer in self.experts:
            spread_experts(layer, self.of_experts["expert"])

    def clip(self, parameters: Sequence[Tensor], grad_clip: float) -> float:
        """See `TrainingEngine.clip`: squares are summed over the parts, of equal parts once."""
        from parakit.training.parallel.sharding import n_distinct

        gradients = [p.grad for p in parameters if p.grad is not None]
        n = dist.get_world_size()
        squares = torch.zeros((), dtype=torch.float64)
        for gradient in gradients:
            part = local(gradient)
            squares += part.norm(dtype=torch.float64).square().cpu() * n_distinct(gradient) / n
        dist.all_reduce(squares)
        norm = float(squares.sqrt())
        if grad_clip and norm > grad_clip:
            torch._foreach_mul_([local(gradient) for gradient in gradients], grad_clip / (norm + 1e-6))
        return norm

    def measure(self, name: str, work: Callable[[], Value]) -> Value:
        """See `TrainingEngine.measure`. In parts all processes do the same work together. What is outside of the blocks is
        gathered for all of it, because it is read without a pass of the module that was wrapped.
        """
        if not self.in_parts:
            with self.whole():
                return super().measure(name, work)
        assert isinstance(self.wrapped, FSDPModule)
        self.wrapped._get_fsdp_state()._lazy_init()  # or a block would take itself for the outermost module
        self.wrapped.unshard()
        try:
            found = work()
        finally:
            self.wrapped.reshard()
        return from_first(name, lambda: found)

    @contextlib.contextmanager
    def whole(self, everywhere: bool = False) -> Iterator[None]:
        """See `TrainingEngine.whole`."""
        from parakit.training.parallel.whole import make_whole

        spread_again = make_whole(self.wrapped.model, keep=everywhere or self.is_first)
        try:
            yield
        finally:
            spread_again()

    def release(self) -> None:
        """See `TrainingEngine.release`."""
        from parakit.training.parallel.whole import stay_whole

        if not self.in_parts:
            stay_whole(self.wrapped.model)
        super().release()
