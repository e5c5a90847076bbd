"""The one training loop: a generator of step records.

Every stage runs this loop with its own batches and objective. One iteration is one optimizer step: forward and backward
of its micro-batches, gradient clipping, update. The loss is a sum over counted tokens or examples, divided by their
number in the whole optimizer batch, so that accumulation does not change it. A step is skipped when its loss or gradient
is not finite, or its loss spikes. Logging, validation and checkpoints happen in the body of the caller's `for` loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.training.micro_batches import Objective, TrainingBatch
from parakit.training.monitoring.dynamics import Dynamics
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.optimizers.schedules import learning_rate_factor
from parakit.training.parallel.engine import ONE_PROCESS, TrainingEngine
from parakit.training.precision import Precision

MAX_SKIPPED_IN_A_ROW = 10


@dataclass(frozen=True)
class StepRecord:
    """The figures of one optimizer step, over all processes. `step` counts from 1; `loss` is per counted token or example;
    `n_tokens` includes padding; `learning_rate` is that of the matrices.
    """

    step: int
    loss: float
    n_counted: int
    n_tokens: int
    grad_norm: float
    learning_rate: float
    seconds: float
    skipped: bool


class TrainingDiverged(UserError):
    """Too many steps in a row were skipped."""


@dataclass
class SpikeGuard:
    """Rejects steps with a loss that is not finite or, with `detects_spikes`, far larger than usual, whatever its sign.
    A policy's loss is around zero, so spikes cannot be told there. Part of the training state.
    """

    mean: float = (
        0.0  # of the last losses' magnitudes, so that no accepted loss can make the usual ones unbelievable
    )
    n_seen: int = 0
    n_skipped_in_a_row: int = 0
    detects_spikes: bool = True

    def accepts(self, loss: float, grad_norm: float) -> bool:
        """Whether to take the step. Raises `TrainingDiverged` after ten rejected steps in a row."""
        limit = 2 * self.mean + 1 if self.n_seen >= 20 and self.detects_spikes else 1e4
        good = math.isfinite(loss) and math.isfinite(grad_norm) and abs(loss) <= limit
        self.n_skipped_in_a_row = 0 if good else self.n_skipped_in_a_row + 1
        if self.n_skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingDiverged(
                f"{MAX_SKIPPED_IN_A_ROW} steps in a row were skipped: loss {loss:.4g} (believable up to ±{limit:.4g}),"
                f" gradient norm {grad_norm:.4g}",
                "lower learning_rate or look at the data with `parakit doctor`; the last good checkpoint is kept",
            )
        if good:
            self.n_seen += 1
            self.mean += (abs(loss) - self.mean) / min(self.n_seen, 50)
        return good


def train_steps(
    model: nn.Module,
    batches: Iterable[Sequence[TrainingBatch]],
    objective: Objective,
    optimizer: Optimizer,
    *,
    first_step: int = 0,
    precision: Precision | None = None,
    guard: SpikeGuard | None = None,
    engine: TrainingEngine = ONE_PROCESS,
    dynamics: Dynamics | None = None,
) -> Iterator[StepRecord]:
    """Take one optimizer step for every element of `batches` (the micro-batches of one step, of this process) and yield its
    record.

    `first_step` is the number of steps taken before; the schedule continues from it. `objective` is what
    `engine.attach` returned.
    """
    precision = precision or Precision("float32", optimizer.parameters[0].device)
    guard = guard or SpikeGuard()
    for step, micro_batches in enumerate(batches, start=first_step):
        started = time.perf_counter()
        model.train()
        plan = optimizer.plan  # which a run in a given time revises between steps
        counts = (sum(batch.n_counted for batch in micro_batches), sum(b.n_tokens for b in micro_batches))
        n_counted, n_tokens = (round(count) for count in engine.total(*counts))
        engine.begin_step(step, plan.seed)
        measured = dynamics if dynamics is not None and dynamics.begins(step) else None
        parts = measured if engine is ONE_PROCESS else None  # other processes' parts come with the last one
        loss = accumulate_gradients(model, micro_batches, objective, precision, n_counted, engine, parts)
        precision.unscale(optimizer.parameters)
        grad_norm = engine.clip(optimizer.parameters, plan.grad_clip)
        factor = learning_rate_factor(plan, step)
        good = n_counted > 0 and guard.accepts(loss, grad_norm)
        precision.update(overflowed=not math.isfinite(grad_norm))
        if good:
            optimizer.set_factor(factor)
            if measured:
                measured.before_update(grad_norm, n_counted)
            optimizer.step()
            if measured:
                measured.after_update()
        optimizer.zero_grad()
        yield StepRecord(
            step=step + 1,
            loss=loss,
            n_counted=n_counted,
            n_tokens=n_tokens,
            grad_norm=grad_norm,
            learning_rate=plan.learning_rate * factor,
            seconds=time.perf_counter() - started,
            skipped=not good,
        )


def accumulate_gradients(
    model: nn.Module,
    micro_batches: Sequence[TrainingBatch],
    objective: Objective,
    precision: Precision,
    n_counted: int,
    engine: TrainingEngine = ONE_PROCESS,
    dynamics: Dynamics | None = None,
) -> float:
    """Accumulate the gradients of the mean loss over all counted tokens; return that loss. `n_counted`: of all processes."""
    total = torch.zeros((), dtype=torch.float64)
    for number, batch in enumerate(micro_batches, start=1):
        if batch.n_counted == 0 and not engine.runs_empty:
            continue  # 0 / 0 must not reach the weights
        with engine.accumulating(is_last=number == len(micro_batches)), precision.autocast():
            loss = objective(model, batch) / max(1, n_counted)
            if batch.n_counted == 0:
                loss = loss * 0.0
            (loss * (precision.scale * engine.gradient_scale)).backward()
        if dynamics is not None:
            dynamics.add_part(batch.n_counted, n_counted, precision.scale)
        total += loss.detach().to(total)
    engine.finish_gradients()
    return engine.total(float(total))[0]
