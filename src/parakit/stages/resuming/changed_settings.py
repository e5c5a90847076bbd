"""Resuming an interrupted run under other settings, after its user has seen what changed (`--resume`).

The same command resumes its own run without a question, and takes over one whose steps so far are the same (`run_dir.py`). Here
the steps so far are others: weights, moments and step number are kept, and from there on the new settings hold. What changed
is recorded with the run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from parakit.common.artifacts import PLAN
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_checked_json, write_checked_json
from parakit.common.progress import log
from parakit.model.config import ModelConfig, model_config
from parakit.stages.run_dir import OtherRun, checkpoint_names, other_runs
from parakit.training.metrics import EVENTS, METRICS
from parakit.training.optimizers.schedules import plan_differences
from parakit.training.plan import TrainingPlan
from parakit.training.train_state import RESUMED

Confirm = Callable[[Sequence[str]], bool]
"""Shows what would happen, and returns whether it may."""
_BEGINNING = "leave out --resume to start from the beginning"


def resume_changed(run_dir: Path, config: ModelConfig, plan: TrainingPlan, confirm: Confirm) -> None:
    """Continue the newest interrupted run of the same output with the settings of `run_dir`, if `confirm` agrees. A run that
    has checkpoints of its own goes on with them. `UserError` where there is none, or it cannot go on like that.
    """
    if checkpoint_names(run_dir):
        return
    runs = [run for run in other_runs(run_dir) if run.step is not None and run.plan is not None]
    if not runs:
        raise UserError(f"{run_dir.parent}: no interrupted run of this output with a checkpoint", _BEGINNING)
    other = max(runs, key=lambda run: (run.path / checkpoint_names(run.path)[-1]).stat().st_mtime)
    saved, step = other.plan, other.step
    assert saved is not None
    assert step is not None
    _check_possible(other, config, saved, plan)
    changes = _changes(other, saved, plan, step)
    lines = [
        f"{other.path}: an interrupted run after step {step} of {saved.max_steps}; since then:",
        *changes,
    ]
    if not confirm(lines):
        raise UserError("the run is not resumed with other settings", _BEGINNING)
    log(f"resuming after step {step} with other settings: {'; '.join(changes)}")
    for name in (METRICS, EVENTS, *checkpoint_names(other.path)):  # the newest checkpoint last
        if (other.path / name).exists():
            os.rename(other.path / name, run_dir / name)
    write_checked_json(run_dir / RESUMED, {"step": step, "changes": changes})
    shutil.rmtree(other.path, ignore_errors=True)


def resumed_changes(run_dir: Path) -> JsonObject:
    """For the figures of a run: after which step other settings hold, and what changed; empty for most runs."""
    if not (run_dir / RESUMED).is_file():
        return {}
    return {"resumed_with": read_checked_json(run_dir / RESUMED, "delete it: the run starts again")}


def _check_possible(other: OtherRun, config: ModelConfig, saved: TrainingPlan, plan: TrainingPlan) -> None:
    step = other.step or 0
    if (other.path / PLAN).is_file():
        record = read_checked_json(other.path / PLAN, _BEGINNING)
        before = model_config(record["family"], record["config"], str(other.path))
        if before != config:
            names = [
                name
                for name in type(config).model_fields
                if getattr(before, name, None) != getattr(config, name)
            ]
            raise UserError(
                f"{other.path}: its model differs in {', '.join(names) or 'its family'}", _BEGINNING
            )
    if saved.optimizer != plan.optimizer:
        raise UserError(
            f"{other.path}: its checkpoint has the state of {saved.optimizer}, and optimizer = {plan.optimizer} is set",
            f"keep {saved.optimizer}, or {_BEGINNING}",
        )
    if step >= plan.max_steps:
        raise UserError(
            f"{other.path}: has taken {step} steps, and the new settings end after {plan.max_steps}",
            f"raise max_steps above {step}, or {_BEGINNING}",
        )


def _changes(other: OtherRun, saved: TrainingPlan, plan: TrainingPlan, step: int) -> list[str]:
    """What is different from this step on, in words."""
    changes = list(other.differences.values())
    named = " ".join(changes)
    for key in plan_differences(saved, plan, step):
        if f"{key} " not in named:
            changes.append(f"{key} {getattr(saved, key)}, now {getattr(plan, key)}")
    before, now = saved.rows_before(step), plan.rows_before(step)
    if before != now:
        which = "are left out" if now > before else "are read again"
        changes.append(
            f"{before:,} rows were read, now row {now:,} comes next: {abs(now - before):,} rows {which}"
        )
    return changes
