"""The optimizer of a run: Muon for matrices with AdamW for the rest, or AdamW for everything.

Embeddings, whatever is learned about positions, heads, routers, norms and biases always go to AdamW: their rows
are looked up, or each is a choice of its own. A stack of experts is as many matrices. Weight decay falls
on matrices only. The state is a flat dictionary of named tensors, so that a checkpoint is
safetensors and nothing else.
"""

from __future__ import annotations

from torch import Tensor, nn

from parakit.model.layers.attention import Attention
from parakit.training.config import TrainingPlan
from parakit.training.optimizers.adamw import AdamW
from parakit.training.optimizers.muon import Muon


def is_matrix(name: str, parameter: Tensor) -> bool:
    """True for a weight that multiplies activations inside a block, (R, C) or one for each expert (E, R, C): not
    for embeddings, learned positions and relative ones, heads, and routers.
    """
    parts = name.split(".")
    apart = any(part in ("positions", "router") or part.endswith(("_embedding", "_head")) for part in parts)
    return parameter.ndim in (2, 3) and not apart


def lr_multipliers(model: nn.Module) -> dict[str, float]:
    """Weights that are stepped more finely than others, by name. Without the usual attention scale (T5) queries are
    that much smaller for the same scores, and a step of the same size would turn the scores so many times as far.
    """
    return {
        f"{name}.query.weight": module.head_dim**-0.5 / module.scale
        for name, module in model.named_modules()
        if isinstance(module, Attention) and module.scale is not None
    }


class Optimizer:
    """Steps every trainable parameter of `model` as `plan` says. `set_factor` scales all learning rates."""

    def __init__(self, model: nn.Module, plan: TrainingPlan) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        shares = lr_multipliers(model)
        by_share: dict[float, list[tuple[str, nn.Parameter]]] = {1.0: []}
        for name, p in named:
            if is_matrix(name, p):
                by_share.setdefault(shares.get(name, 1.0), []).append((name, p))
        rest = [(name, p) for name, p in named if not is_matrix(name, p)]
        self.plan = plan
        self.parameters = [p for _, p in named]
        of_rest = AdamW(rest, plan.embedding_learning_rate, plan.adam_betas)
        self.parts = (of_rest, *(_of_matrices(found, share, plan) for share, found in by_share.items()))
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
        return {name: tensor for part in self.parts for name, tensor in part.state_tensors().items()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_tensors` returned."""
        for part in self.parts:
            part.load_state_tensors(tensors)


def _of_matrices(named: list[tuple[str, nn.Parameter]], share: float, plan: TrainingPlan) -> Muon | AdamW:
    """The optimizer of some matrices, at a share of the plan's rate."""
    rate = plan.learning_rate * share
    if plan.optimizer == "muon":
        return Muon(named, rate, plan.momentum, plan.weight_decay)
    return AdamW(named, rate, plan.adam_betas, plan.weight_decay)
