"""The optimizer of a run: Muon for matrices with AdamW for the rest, or AdamW for everything.

Embeddings, the output head and norms always go to AdamW: their rows are looked up, not multiplied. Weight
decay falls on matrices only. The state is a flat dictionary of named tensors, so that a checkpoint is
safetensors and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parakit.training.config import TrainingPlan
from parakit.training.muon import Muon


def is_matrix(name: str, parameter: Tensor) -> bool:
    """True for a weight that multiplies activations inside a block: two-dimensional, and neither
    embedding nor head.
    """
    return parameter.ndim == 2 and "embedding" not in name and "lm_head" not in name


class Optimizer:
    """Steps every trainable parameter of `model` as `plan` says. `set_factor` scales all learning rates."""

    def __init__(self, model: nn.Module, plan: TrainingPlan) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [(name, p) for name, p in named if is_matrix(name, p)]
        rest = [(name, p) for name, p in named if not is_matrix(name, p)]
        self.plan = plan
        self.parameters = [p for _, p in named]
        self.muon: Muon | None = None
        groups = [(rest, plan.embedding_learning_rate, 0.0)]
        if plan.optimizer == "muon" and matrices:
            self.muon = Muon(matrices, plan.learning_rate, plan.momentum, plan.weight_decay)
        elif matrices:
            groups.append((matrices, plan.learning_rate, plan.weight_decay))
        self.names = [name for group, _, _ in groups for name, _ in group]
        self.rates = [rate for _, rate, _ in groups]
        self.adamw = torch.optim.AdamW(
            [
                {"params": [p for _, p in group], "lr": rate, "weight_decay": decay}
                for group, rate, decay in groups
            ],
            betas=plan.adam_betas,
            fused=True,
        )

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` times its planned value."""
        for group, rate in zip(self.adamw.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        if self.muon:
            self.muon.learning_rate = self.plan.learning_rate * factor

    def step(self) -> None:
        """Update the parameters from their gradients."""
        self.adamw.step()
        if self.muon:
            self.muon.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """All moments by parameter name; empty moments (before the first step) are absent."""
        parameters = [p for group in self.adamw.param_groups for p in group["params"]]
        tensors = {
            f"{name}.{key}": value
            for name, parameter in zip(self.names, parameters, strict=True)
            for key, value in self.adamw.state.get(parameter, {}).items()
        }
        return tensors | (self.muon.state_tensors() if self.muon else {})

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_tensors` returned."""
        parameters = [p for group in self.adamw.param_groups for p in group["params"]]
        for name, parameter in zip(self.names, parameters, strict=True):
            state = {key: tensors.get(f"{name}.{key}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if state["step"] is not None:
                on_device = {
                    key: value.to(parameter.device, copy=True)
                    for key, value in state.items()
                    if value is not None
                }
                self.adamw.state[parameter] = on_device
        if self.muon:
            self.muon.load_state_tensors(tensors)
