"""Parakit's side of `training_speed`: its trainer with its defaults, compilation included where it decides for it."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.speed.peers import training_workload as work


def train(size: work.Size, folder: Path, clock: work.StepClock) -> float:
    """Optimizer steps; the last loss."""
    from benchmarks.speed.peers.parakit_side import WholeRows, adamw_plan
    from parakit.checkpoints import load_model
    from parakit.training.objectives import next_token
    from parakit.training.trainer import Trainer

    model, _ = load_model(folder, dtype="float32")
    plan = adamw_plan(size.seq_len, size.n_rows, work.LEARNING_RATE)
    plan = plan.replace(max_steps=size.n_steps, compile=os.environ.get("COMPILE", "off"))
    clock.mark()
    loss = 0.0
    for record in Trainer(model, WholeRows(work.rows(size)), next_token, plan, folder=None).steps():
        loss = record.loss
        clock.mark()
    return loss


if __name__ == "__main__":
    work.run_side(train)
