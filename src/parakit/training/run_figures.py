"""The figures of a finished run: its losses, its speed, its plan as it turned out, and the rows of its charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parakit.common.files import JsonObject
from parakit.training.metrics import chart_rows, step_summary
from parakit.training.throughput import measure_peak_flops

if TYPE_CHECKING:
    from parakit.training.trainer import Trainer, TrainingSetup


def run_figures(
    setup: TrainingSetup, trainer: Trainer, final: JsonObject, n_steps: int, seconds: float
) -> JsonObject:
    """The figures of a finished run, for lineage and report."""
    plan, config, spec = trainer.plan, setup.model.config, setup.task.spec
    parameters = list(setup.model.parameters())
    steps = step_summary(setup.run_dir)
    figures = {
        "family": config.family,
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "steps": n_steps,
        **steps,
        **final,
        **({"before": dict(setup.before)} if setup.before is not None else {}),
        "loss_unit": spec.loss_unit,
        "training_seconds": trainer.seconds,
        "seconds": seconds,
        "compiled": trainer.compile_choice.compiled,
        "compile_reason": trainer.compile_choice.reason,
        **({"time_budget": setup.budget.seconds, "time_used": setup.budget.used} if setup.budget else {}),
        "plan": plan.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        **setup.task.long_row_counts(),
    }
    if spec.all_tokens_predicted:
        peak = measure_peak_flops(trainer.device.type, trainer.precision.dtype)
        rate = steps["tokens_per_second"]
        figures["share_of_peak"] = rate * config.flops_per_token(plan.seq_len) / peak
    return figures | chart_rows(setup.run_dir)
