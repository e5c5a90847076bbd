"""Training checkpoints: everything that resuming needs, without pickle.

One folder per checkpoint, `step-00001234`: trained weights, optimizer moments and torch's random state as safetensors,
the rest (step, spike guard, loss scale) as JSON. It is an artifact folder: written atomically and verified by digest. Of
a damaged checkpoint a warning is printed, and the one before is used. The newest are kept, two unless the settings say
otherwise. Many processes write their parts of the tensors (`parallel/checkpoint.py`); either kind resumes in any number of
processes.
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
from parakit.common.files import JsonObject, read_checked_json, read_json, write_json_atomic
from parakit.common.locks import remove_partials
from parakit.common.processes import from_first
from parakit.common.progress import log
from parakit.common.seeds import derive_seed, seed_everything
from parakit.model.adapters import adapter_parameters
from parakit.training.config import TrainingPlan
from parakit.training.loop import SpikeGuard
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.optimizers.schedules import plan_differences
from parakit.training.parallel.engine import ONE_PROCESS, TrainingEngine
from parakit.training.precision import Precision

KEEP = 2
WEIGHTS, MOMENTS, RANDOM = "weights.safetensors", "optimizer.safetensors", "random.safetensors"
RESUMED = "resumed.json"  # where a checkpoint was taken over by a run of other settings, on purpose
_DELETE = "delete the folder to start from the beginning"


def save_train_state(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    precision: Precision,
    guard: SpikeGuard,
    extra: dict[str, Any],
    engine: TrainingEngine = ONE_PROCESS,
    keep: int = KEEP,
) -> Path:
    """Write the checkpoint after `step` steps and delete all but the newest `keep`, once it is complete. Many processes write
    in the background.
    """
    path = folder / f"step-{step:08d}"
    if path.exists() and not (path / LINEAGE).is_file():  # rejected as damaged when this run started
        shutil.rmtree(path, ignore_errors=True)
    lineage = Lineage("train_state", config=optimizer.plan.model_dump(mode="json"), seed=optimizer.plan.seed)
    moments = optimizer.state_tensors()
    state = {
        "step": step,
        "guard": asdict(guard),
        "loss_scale": precision.scale,
        "n_good_steps": precision.n_good_steps,
        "numbers": {name: moment.item() for name, moment in moments.items() if not moment.ndim},
        "extra": extra,
    }
    if engine.is_distributed:
        tensors = saved_tensors(model) | moments
        engine.save_parts(path, lineage, tensors, state, lambda: _remove_old(folder, path, keep))
        return path
    with writing_artifact(path, lineage, overwrite=True) as inside:
        write_tensors(saved_tensors(model), inside / WEIGHTS)
        write_tensors(moments, inside / MOMENTS)
        write_tensors(_random_states(), inside / RANDOM)
        write_json_atomic(inside / "state.json", state)
    _remove_old(folder, path, keep)
    return path


def _remove_old(folder: Path, path: Path, keep: int) -> None:
    """Delete all but the newest checkpoints; `path` is the newest, and complete."""
    checkpoints = sorted(folder.glob("step-*"))
    damaged = [other for other in checkpoints if other > path]  # the run would have resumed from a valid one
    for old in [*checkpoints[: -keep - len(damaged)], *damaged]:
        shutil.rmtree(old, ignore_errors=True)


def load_train_state(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    precision: Precision,
    guard: SpikeGuard,
    engine: TrainingEngine = ONE_PROCESS,
) -> tuple[int, dict[str, Any]]:
    """Restore the newest valid checkpoint below `folder`; returns (steps taken, extra), or (0, {}) without any.

    A damaged checkpoint is logged and the one before is used. One made under another plan is a `UserError`. It may be of any
    number of processes.
    """
    name = from_first("checkpoint", lambda: _newest_valid(folder))
    if name is None:
        return 0, {}
    return _load(folder / name, model, optimizer, precision, guard, engine)


def _newest_valid(folder: Path) -> str | None:
    remove_partials(folder)  # left by a kill during a save; the run holds the lock of its output
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            open_artifact(path, "train_state")
        except UserError as error:
            log(f"checkpoint ignored: {error}")
            continue
        return path.name
    return None


def _load(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    precision: Precision,
    guard: SpikeGuard,
    engine: TrainingEngine,
) -> tuple[int, dict[str, Any]]:
    saved_plan = TrainingPlan.parse(read_json(path / LINEAGE)["config"], str(path))
    plan = optimizer.plan = optimizer.plan.as_interrupted(saved_plan)
    state = read_json(path / "state.json")
    differing = plan_differences(saved_plan, plan, state["step"])
    if differing and not _is_accepted(path.parent, state["step"]):
        key = differing[0]
        raise UserError(
            f"{path}: was written with {key} = {getattr(saved_plan, key)}, but this run has {key} ="
            f" {getattr(plan, key)}",
            "run with the earlier settings, or delete the folder to start from the beginning",
        )
    if engine.is_distributed or not (path / WEIGHTS).exists():
        _load_parts(path, model, optimizer, state)
    else:
        _load_files(path, model, optimizer)
    precision.scale, precision.n_good_steps = state["loss_scale"], state["n_good_steps"]
    for name, value in state["guard"].items():
        setattr(guard, name, value)
    return state["step"], state["extra"]


def _load_parts(path: Path, model: nn.Module, optimizer: Optimizer, state: JsonObject) -> None:
    """Fill the parts that this process holds, or all of a run in one process. Many processes draw random numbers by step."""
    from parakit.training.parallel.checkpoint import load_shards

    moments = optimizer.state_tensors()
    load_shards(path, saved_tensors(model) | moments)
    numbers = {name: torch.tensor(value) for name, value in state["numbers"].items()}
    optimizer.load_state_tensors(moments | numbers)
    seed_everything(derive_seed(optimizer.plan.seed, "resumed", state["step"]))
    if (path / RANDOM).exists():
        _set_random_states(path)


def _load_files(path: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Fill the state of a run in one process from a checkpoint of one."""
    weights = load_file(path / WEIGHTS)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    not_saved = set(model.state_dict()) - set(saved_tensors(model))
    assert not unexpected, unexpected
    assert set(missing) <= not_saved, missing
    optimizer.load_state_tensors(load_file(path / MOMENTS))
    _set_random_states(path)


def _set_random_states(path: Path) -> None:
    random = load_file(path / RANDOM)
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])


def _is_accepted(folder: Path, step: int) -> bool:
    """Whether the run was resumed with other settings at this checkpoint, on purpose."""
    accepted = read_checked_json(folder / RESUMED, _DELETE) if (folder / RESUMED).is_file() else {}
    return bool(accepted.get("step") == step)


def saved_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
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
