"""The engine of a run: one process, or those that `torchrun` has started."""

from __future__ import annotations

from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.processes import from_first, world_size
from parakit.training.parallel.engine import ONE_PROCESS, TrainingEngine
from parakit.training.parallel.layout import choose_layout
from parakit.training.plan import TrainingPlan


def make_engine(plan: TrainingPlan, n_parameters: int) -> TrainingEngine:
    """The engine of a run: one process, or all that `torchrun` has started. `n_parameters`: those that train."""
    if world_size() == 1:
        choose_layout(plan.parallel, 1, n_parameters, None, plan.n_rows)  # refuses a layout for more
        if plan.offload_optimizer:
            raise UserError(
                "offload_optimizer is set, and there is one process",
                "start several with torchrun, or remove it and set gradient_checkpointing to on",
            )
        return ONE_PROCESS
    from parakit.training.parallel.process_engine import ProcessEngine, ShardedEngine
    from parakit.training.parallel.process_group import memory_of_process, start_process_group

    device = pick_device(plan.device)
    start_process_group(device)
    memory = from_first("memory", lambda: memory_of_process(device))
    smallest = min(plan.rows_at(0), plan.n_rows)
    layout = choose_layout(plan.parallel, world_size(), n_parameters, memory, smallest)
    if layout.splits_weights or plan.offload_optimizer:
        return ShardedEngine(layout, device, plan.offload_optimizer)
    return ProcessEngine(layout, device)
