"""Tiny runs in many processes, next to the same runs in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from parakit.common.seeds import seed_everything
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.parallel.engine import local
from parakit.training.parallel.start import make_engine
from parakit.training.trainer import Trainer
from tests.training.tiny_runs import SEQ_LEN, tiny_plan
from tests.training.tiny_tasks import TASKS, woken

HEADS: dict[str, Any] = {"n_heads": 4, "n_kv_heads": 2, "d_model": 16, "head_dim": 4}  # two parts of each
N_ROWS = 8


def spread_trainer(
    name: str, folder: Path | None = None, shape: dict[str, Any] | None = None, **changes: Any
) -> Trainer:
    """A trainer of the task `name` in the processes that there are."""
    plan = tiny_plan(**{"batch_tokens": N_ROWS * SEQ_LEN, "save_every": 4} | changes)
    seed_everything(0)
    task = TASKS[name]
    model = woken(task.model(**{"dropout": 0.0} | HEADS | (shape or {})))
    engine = make_engine(plan, sum(parameter.numel() for parameter in model.parameters()))
    return Trainer(model, task.source(), task.objective, plan, folder, engine=engine)


def run_steps(
    name: str, folder: Path | None = None, last: int | None = None, **changes: Any
) -> list[tuple[float, ...]]:
    """Loss, gradient norm, counted tokens and tokens of every step, up to `last`."""
    trainer, found = spread_trainer(name, folder, **changes), []
    for record in trainer.steps():
        found.append((record.step, record.loss, record.grad_norm, record.n_counted, record.n_tokens))
        if record.step == last:
            break
    trainer.engine.release()
    return found


def whole_gradients(name: str, **changes: Any) -> dict[str, torch.Tensor]:
    """The gradients of the first step, whole, by name."""
    trainer = spread_trainer(name, max_steps=1, grad_clip=0.0, **changes)
    kept: dict[str, torch.Tensor] = {}
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}

    def keep() -> None:
        for parameter in trainer.optimizer.parameters:
            gradient: Any = parameter.grad
            whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            kept[names[id(parameter)]] = whole.clone()

    trainer.optimizer.step = keep  # type: ignore[method-assign]
    list(trainer.steps())
    return kept


def held_bytes(name: str, **changes: Any) -> tuple[int, int, int]:
    """Bytes of the weights, the gradients and the moments that this process holds."""
    trainer = spread_trainer(name, max_steps=1, **changes)
    found: list[int] = []

    def weigh() -> None:
        parameters = trainer.optimizer.parameters
        found.append(sum(local(p.detach()).nbytes for p in parameters))
        found.append(sum(local(p.grad).nbytes for p in parameters if p.grad is not None))

    trainer.optimizer.step = weigh  # type: ignore[method-assign]
    list(trainer.steps())
    optimizer: Optimizer = trainer.optimizer
    moments = sum(local(moment).nbytes for moment in optimizer.state_tensors().values() if moment.ndim)
    return found[0], found[1], moments
