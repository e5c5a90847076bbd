"""The engine of a run: one process, or those that `torchrun` has started."""

from __future__ import annotations

from torch import nn

from parakit.checkpoints.sharded.empty_weights import is_pending
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.processes import from_first, is_distributed, world_size
from parakit.common.progress import log
from parakit.training.monitoring.settings import MonitoringSettings
from parakit.training.parallel.engine import ONE_PROCESS, TrainingEngine
from parakit.training.parallel.layout import choose_layout
from parakit.training.plan import TrainingPlan


def check_in_parts(plan: TrainingPlan, model: nn.Module, monitoring: MonitoringSettings) -> None:
    """`UserError` where a run `in_parts` would need the whole model after all."""
    if not plan.in_parts:
        return
    if not is_pending(model):
        raise UserError("in_parts is for pre-training, and for fine-tuning all weights", "leave it out")
    if monitoring.keeps_best or monitoring.patience is not None:
        raise UserError(
            "in_parts keeps no best weights, which patience and final_weights: best need",
            "leave them or in_parts out",
        )
    log("in parts: the doctor, samples and comparisons are left out")


def agree_on_plan(plan: TrainingPlan) -> TrainingPlan:
    """The first process's plan."""
    if not is_distributed():
        return plan
    return TrainingPlan.parse(from_first("plan", lambda: plan.model_dump(mode="json")))


def make_engine(plan: TrainingPlan, n_parameters: int) -> TrainingEngine:
    """The engine of a run: one process, or all that `torchrun` has started. `n_parameters`: those that train."""
    if world_size() == 1:
        choose_layout(plan.parallel, 1, n_parameters, None, plan.n_rows)  # refuses a layout for more
        if plan.offload_optimizer:
            raise UserError(
                "offload_optimizer is set, and there is one process",
                "start several with torchrun, or remove it and set gradient_checkpointing to on",
            )
        if plan.in_parts:
            raise UserError("in_parts is set, and there is one process", "start several with torchrun")
        return ONE_PROCESS
    from parakit.training.parallel.process_engine import ProcessEngine, ShardedEngine
    from parakit.training.parallel.process_group import memory_of_process, start_process_group

    device = pick_device(plan.device)
    start_process_group(device)
    memory = from_first("memory", lambda: memory_of_process(device))
    smallest = min(plan.rows_at(0), plan.n_rows)
    layout = choose_layout(plan.parallel, world_size(), n_parameters, memory, smallest)
    if plan.in_parts and not layout.splits_weights:
        raise UserError(
            f"in_parts is set, and parallel = {plan.parallel!r} gives every process all the weights",
            "set parallel to shard",
        )
    if layout.splits_weights or plan.offload_optimizer:
        return ShardedEngine(layout, device, plan.offload_optimizer)
    return ProcessEngine(layout, device)
