"""Training checkpoints: everything that resuming needs, without pickle.

One folder per checkpoint, `step-00001234`: trained weights, optimizer moments and torch's random state as safetensors,
the rest (step, spike guard, loss scale) as JSON. It is an artifact folder: written atomically and verified by digest. Of
a damaged checkpoint a warning is printed, and the one before is used. The two newest are kept.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from parakit.checkpoints.safetensors_io import write_tensors
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import read_json, write_json_atomic
from parakit.common.locks import remove_partials
from parakit.common.progress import log
from parakit.model.adapters import adapter_parameters
from parakit.training.config import TrainingPlan
from parakit.training.loop import SpikeGuard
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.optimizers.schedules import plan_differences
from parakit.training.precision import Precision

KEEP = 2


def save_train_state(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    precision: Precision,
    guard: SpikeGuard,
    extra: dict[str, Any],
) -> Path:
    """Write the checkpoint after `step` steps and delete all but the newest two."""
    path = folder / f"step-{step:08d}"
    if path.exists() and not (path / LINEAGE).is_file():  # rejected as damaged when this run started
        shutil.rmtree(path, ignore_errors=True)
    lineage = Lineage("train_state", config=optimizer.plan.model_dump(mode="json"), seed=optimizer.plan.seed)
    with writing_artifact(path, lineage, overwrite=True) as inside:
        write_tensors(_saved_tensors(model), inside / "weights.safetensors")
        write_tensors(optimizer.state_tensors(), inside / "optimizer.safetensors")
        write_tensors(_random_states(), inside / "random.safetensors")
        state = {
            "step": step,
            "guard": asdict(guard),
            "loss_scale": precision.scale,
            "n_good_steps": precision.n_good_steps,
            "extra": extra,
        }
        write_json_atomic(inside / "state.json", state)
    checkpoints = sorted(folder.glob("step-*"))
    damaged = [other for other in checkpoints if other > path]  # the run would have resumed from a valid one
    for old in [*checkpoints[: -KEEP - len(damaged)], *damaged]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def load_train_state(
    folder: Path, model: nn.Module, optimizer: Optimizer, precision: Precision, guard: SpikeGuard
) -> tuple[int, dict[str, Any]]:
    """Restore the newest valid checkpoint below `folder`; returns (steps taken, extra), or (0, {}) without any.

    A damaged checkpoint is logged and the one before is used. One made under another plan is a `UserError`.
    """
    remove_partials(folder)  # left by a kill during a save; the run holds the lock of its output
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            open_artifact(path, "train_state")
        except UserError as error:
            log(f"checkpoint ignored: {error}")
            continue
        return _load(path, model, optimizer, precision, guard)
    return 0, {}


def _load(
    path: Path, model: nn.Module, optimizer: Optimizer, precision: Precision, guard: SpikeGuard
) -> tuple[int, dict[str, Any]]:
    saved_plan = TrainingPlan.parse(read_json(path / LINEAGE)["config"], str(path))
    plan = optimizer.plan = optimizer.plan.as_interrupted(saved_plan)
    state = read_json(path / "state.json")
    if differing := plan_differences(saved_plan, plan, state["step"]):
        key = differing[0]
        raise UserError(
            f"{path}: was written with {key} = {getattr(saved_plan, key)}, but this run has {key} ="
            f" {getattr(plan, key)}",
            "run with the earlier settings, or delete the folder to start from the beginning",
        )
    weights = load_file(path / "weights.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    not_saved = set(model.state_dict()) - set(_saved_tensors(model))
    assert not unexpected, unexpected
    assert set(missing) <= not_saved, missing
    optimizer.load_state_tensors(load_file(path / "optimizer.safetensors"))
    random = load_file(path / "random.safetensors")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
    precision.scale, precision.n_good_steps = state["loss_scale"], state["n_good_steps"]
    for name, value in state["guard"].items():
        setattr(guard, name, value)
    return state["step"], state["extra"]


def _saved_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors by name, a tied one once (`named_parameters` skips the second name), without frozen weights
    of the base.
    """
    adapters = adapter_parameters(model)
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad or name in adapters}


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
