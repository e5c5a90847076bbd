"""Tiny runs in many processes, next to the same runs in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from parakit.alignment.preferences.dpo import PreferenceObjective, reference_log_probs
from parakit.alignment.rl.reward import Reward
from parakit.common.seeds import seed_everything
from parakit.model.adapters import LoraConfig, attach, make_lora
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.parallel.engine import local
from parakit.training.parallel.start import make_engine
from parakit.training.plan import TrainingPlan
from parakit.training.trainer import Trainer
from tests.alignment.ranking_cases import encoded
from tests.alignment.rl.tiny_policy import tiny_policy, tiny_trainer
from tests.training.tiny_runs import SEQ_LEN, tiny_plan
from tests.training.tiny_tasks import TASKS, woken

HEADS: dict[str, Any] = {"n_heads": 4, "n_kv_heads": 2, "d_model": 16, "head_dim": 4}  # two parts of each
N_ROWS = 8
# That of the other tasks makes an adapter on random weights jump, which turns rounding into percents within 50 steps.
LORA_RATE = 1e-3


def spread_trainer(name: str, folder: Path | None = None, **changes: Any) -> Trainer:
    """A trainer of the task `name` in the processes that there are."""
    rate = {"learning_rate": LORA_RATE} if name == "lora" else {}
    plan = tiny_plan(**{"batch_tokens": N_ROWS * SEQ_LEN, "save_every": 4} | rate | changes)
    seed_everything(0)
    if name in ("grpo", "ppo"):
        return rl_trainer(name, folder, plan)
    model, source, objective = tuning(name) if name in ("lora", "dpo") else from_scratch(name)
    engine = make_engine(plan, sum(parameter.numel() for parameter in model.parameters()))
    return Trainer(model, source, objective, plan, folder, engine=engine)


def from_scratch(name: str) -> tuple[Any, Any, Any]:
    task = TASKS[name]
    losses = (
        {"balance_coef": 0.0, "router_z_coef": 0.0} if name == "experts" else {}
    )  # means over a micro-batch
    return woken(task.model(dropout=0.0, **HEADS, **losses)), task.source(), task.objective


def tuning(name: str) -> tuple[Any, Any, Any]:
    """A model with an adapter on conversations, or one on pairs of completions."""
    if name == "lora":
        model, source, objective = from_scratch("next_token")
        attach(model, make_lora(model, LoraConfig(rank=2)))
        return woken(model), source, objective
    model = woken(TASKS["next_token"].model(dropout=0.0, **HEADS | {"max_seq_len": 64}))
    source = PreferenceSource(encoded([2] * 24), 0)
    source.reference = reference_log_probs(model, source)
    with torch.no_grad():  # so that the loss is not that of equal policies
        model.lm_head.weight += 0.1 * torch.randn(model.lm_head.weight.shape)
    return model, source, PreferenceObjective("dpo", 0.5)


def rl_trainer(method: str, folder: Path | None, plan: TrainingPlan, reward: Reward | None = None) -> Trainer:
    """A policy that learns vowels; four processes have rows of a part of its minibatch each."""
    changes = {"max_steps": plan.max_steps, "parallel": plan.parallel, "save_every": 4}
    shape = {"n_heads": 4, "n_kv_heads": 2, "d_model": 16, "head_dim": 4, "d_ff": 24}
    return tiny_trainer(folder, method, reward, changes, tiny_policy(**shape), in_all_processes=True)


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
