"""The optimizer of a run: Muon for matrices with AdamW for the rest, or one of the others for everything.

Embeddings, learned positions, heads, routers, norms and biases always use AdamW. A stack of experts is as many matrices.
Weight decay applies to matrices only. The state is a flat dictionary of named tensors, which a checkpoint stores as
safetensors.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from torch import Tensor, nn

from parakit.model.layers.attention import Attention
from parakit.training.config import TrainingPlan
from parakit.training.optimizers.adamw import AdamW
from parakit.training.optimizers.muon import Muon
from parakit.training.optimizers.schedule_free import ScheduleFree
from parakit.training.optimizers.sgd import SGD


def is_matrix(name: str, parameter: Tensor) -> bool:
    """True for a weight that multiplies activations inside a block, (R, C) or with experts (E, R, C); False for
    embeddings, learned and relative positions, heads, routers, biases and filters of
    single features.
    """
    excluded = any(
        part in ("positions", "router", "filters") or part.endswith(("_embedding", "_head", "_bias"))
        for part in name.split(".")
    )
    return parameter.ndim in (2, 3) and not excluded


def lr_multipliers(model: nn.Module) -> dict[str, float]:
    """Factors on the learning rate of some weights, by name. Without the usual attention scale (T5), queries are smaller
    by that factor for the same scores, and so must be their updates.
    """
    return {
        f"{name}.query.weight": module.head_dim**-0.5 / module.scale
        for name, module in model.named_modules()
        if isinstance(module, Attention) and module.scale is not None
    }


class PartOptimizer(Protocol):
    """The optimizer of some parameters."""

    learning_rate: float

    def step(self) -> None:
        """Update every parameter from its gradient."""
        ...

    def state_tensors(self) -> dict[str, Tensor]:
        """The moments, by parameter name."""
        ...

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `state_tensors` returned."""
        ...


class Optimizer:
    """Updates every trainable parameter of `model` under `plan`. `set_factor` scales all learning rates."""

    def __init__(self, model: nn.Module, plan: TrainingPlan) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        multipliers = lr_multipliers(model)
        matrices: dict[float, list[tuple[str, nn.Parameter]]] = {1.0: []}  # by multiplier
        for name, p in named:
            if is_matrix(name, p):
                matrices.setdefault(multipliers.get(name, 1.0), []).append((name, p))
        others = [(name, p) for name, p in named if not is_matrix(name, p)]
        self.plan = plan
        self.parameters = [p for _, p in named]
        self.parts: tuple[PartOptimizer, ...] = (
            _other_optimizer(others, plan),
            *(_matrix_optimizer(group, multiplier, plan) for multiplier, group in matrices.items()),
        )
        self.rates = [part.learning_rate for part in self.parts]

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` times its planned value."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            part.learning_rate = rate * factor

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for part in self.parts:
            part.step()

    def averaged(self) -> contextlib.AbstractContextManager[object]:
        """The weights to measure and to use: those of the parameters, of schedule-free their average during the block."""
        stack = contextlib.ExitStack()
        for part in self.parts:
            if isinstance(part, ScheduleFree):
                stack.enter_context(part.averaged())
        return stack

    def finish(self) -> None:
        """Leave the weights to use in the parameters; no step can follow."""
        for part in self.parts:
            if isinstance(part, ScheduleFree):
                part.finish()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """All moments, by parameter name."""
        return {name: tensor for part in self.parts for name, tensor in part.state_tensors().items()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `state_tensors` returned."""
        for part in self.parts:
            part.load_state_tensors(tensors)


def _other_optimizer(named: list[tuple[str, nn.Parameter]], plan: TrainingPlan) -> PartOptimizer:
    """The optimizer of what is no matrix, without weight decay."""
    if plan.optimizer == "sgd":
        return SGD(named, plan.embedding_learning_rate, plan.momentum)
    if plan.optimizer == "schedule_free":
        return ScheduleFree(named, plan.embedding_learning_rate, plan.adam_betas)
    return AdamW(named, plan.embedding_learning_rate, plan.adam_betas)


def _matrix_optimizer(
    named: list[tuple[str, nn.Parameter]], multiplier: float, plan: TrainingPlan
) -> PartOptimizer:
    """The optimizer of some matrices, at the plan's rate times a factor."""
    rate = plan.learning_rate * multiplier
    if plan.optimizer == "muon" and any(hasattr(p, "placements") for _, p in named):
        from parakit.training.optimizers.sharded_muon import ShardedMuon

        return ShardedMuon(named, rate, plan.momentum, plan.weight_decay)
    if plan.optimizer == "muon":
        return Muon(named, rate, plan.momentum, plan.weight_decay)
    if plan.optimizer == "sgd":
        return SGD(named, rate, plan.momentum, plan.weight_decay)
    if plan.optimizer == "schedule_free":
        return ScheduleFree(named, rate, plan.adam_betas, plan.weight_decay)
    is_decoupled = plan.optimizer != "adam"
    return AdamW(named, rate, plan.adam_betas, plan.weight_decay, is_decoupled=is_decoupled)
