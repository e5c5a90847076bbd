"""The optimizer of a run: Muon for matrices with AdamW for the rest, or AdamW for everything.

Embeddings, the output head and norms always go to AdamW: their rows are looked up, not multiplied. Weight
decay falls on matrices only. The state is a flat dictionary of named tensors, so that a checkpoint is
safetensors and nothing else.
"""

from __future__ import annotations

from torch import Tensor, nn

from parakit.training.adamw import AdamW
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
        of_rest = AdamW(rest, plan.embedding_learning_rate, plan.adam_betas)
        of_matrices: Muon | AdamW
        if plan.optimizer == "muon":
            of_matrices = Muon(matrices, plan.learning_rate, plan.momentum, plan.weight_decay)
        else:
            of_matrices = AdamW(matrices, plan.learning_rate, plan.adam_betas, plan.weight_decay)
        self.parts = (of_rest, of_matrices)
        self.rates = [part.learning_rate for part in self.parts]

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` times its planned value."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            part.learning_rate = rate * factor

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """All moments, by parameter name."""
        return self.parts[0].state_tensors() | self.parts[1].state_tensors()

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_tensors` returned."""
        for part in self.parts:
            part.load_state_tensors(tensors)
