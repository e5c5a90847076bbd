"""The figures of a finished run: its losses, its speed, its plan as it turned out, and the rows of its charts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from parakit.common.files import JsonObject
from parakit.model.heads import TransformerModel
from parakit.training.compilation import CompileChoice
from parakit.training.metrics import chart_rows, step_summary
from parakit.training.pace import Pace
from parakit.training.plan import TrainingPlan
from parakit.training.precision import Precision
from parakit.training.tasks import TrainingTask
from parakit.training.throughput import measure_peak_flops


class FinishedRun(Protocol):
    """What is read of a trainer."""

    model: TransformerModel
    plan: TrainingPlan
    seconds: float
    device: torch.device
    precision: Precision
    compile_choice: CompileChoice
    pace: Pace | None


def run_figures(
    trainer: FinishedRun,
    task: TrainingTask,
    run_dir: Path,
    final: JsonObject,
    before: Mapping[str, Any] | None,
    n_steps: int,
    seconds: float,
) -> JsonObject:
    """The figures of a finished run, for lineage and report. `final` and `before`: the validation's at its ends. Reads the log
    of the run, which the first of several processes kept.
    """
    plan, config, spec = trainer.plan, trainer.model.config, task.spec
    budget = trainer.pace.budget if trainer.pace else None
    parameters = list(trainer.model.parameters())
    steps = step_summary(run_dir)
    figures = {
        "family": config.family,
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "steps": n_steps,
        **steps,
        **final,
        **({"before": dict(before)} if before is not None else {}),
        "loss_unit": spec.loss_unit,
        "training_seconds": trainer.seconds,
        "seconds": seconds,
        "compiled": trainer.compile_choice.compiled,
        "compile_reason": trainer.compile_choice.reason,
        **({"time_budget": budget.seconds, "time_used": budget.used} if budget else {}),
        "plan": plan.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        **task.long_row_counts(),
    }
    if spec.all_tokens_predicted:
        peak = measure_peak_flops(trainer.device.type, trainer.precision.dtype)
        rate = steps["tokens_per_second"]
        figures["share_of_peak"] = rate * config.flops_per_token(plan.seq_len) / peak
    return figures | chart_rows(run_dir)
