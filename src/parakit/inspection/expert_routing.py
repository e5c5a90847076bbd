"""Which experts each token of a text goes to, layer by layer, and how evenly the text loads them.

The router's logits become probabilities over the experts; a token goes to the K likeliest (`n_active_experts`), whose
outputs are summed with the probabilities as weights, normalised to one where the model does so. An even load is a share of
1 / E for each expert.

Shapes: T tokens, E experts, K active experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.loaded_model import Model
from parakit.inspection.inputs import ModelInput, encode_input, run
from parakit.inspection.sites import layers
from parakit.model.layers.experts import MixtureOfExperts


@dataclass(frozen=True)
class ExpertLayer:
    """The routing of one layer."""

    name: str
    """Such as `blocks.3`, `decoder.blocks.0`."""
    tokens: tuple[str, ...]
    chosen: np.ndarray = field(repr=False)  # (T, K) int64, the likeliest expert first
    weights: np.ndarray = field(repr=False)  # (T, K) float32
    probabilities: np.ndarray = field(repr=False)  # (T, E) float32

    @property
    def n_experts(self) -> int:
        """E."""
        return self.probabilities.shape[1]

    @property
    def load(self) -> np.ndarray:
        """(E,): the share of the tokens' choices that fell on each expert; they sum to 1."""
        counts = np.bincount(self.chosen.ravel(), minlength=self.n_experts)
        return counts / counts.sum()

    @property
    def balance(self) -> float:
        """The entropy of the load over that of an even one: 1 is even, 0 is one expert for all."""
        load = self.load[self.load > 0]
        return float(-(load * np.log(load)).sum() / math.log(self.n_experts)) if self.n_experts > 1 else 1.0

    def to_json(self) -> JsonObject:
        """Everything, as JSON has it."""
        return {
            "name": self.name,
            "tokens": list(self.tokens),
            "chosen": self.chosen.tolist(),
            "weights": self.weights.tolist(),
            "load": self.load.tolist(),
            "balance": self.balance,
        }


def expert_routing(model: Model, text: str | ModelInput, *, target: str | None = None) -> list[ExpertLayer]:
    """The routing of a text in every layer that has experts, in the order of the forward pass. Raises `UserError` for a
    model without experts, and as `encode_input`.
    """
    with_experts = [layer for layer in layers(model.network) if _experts(layer.block) is not None]
    if not with_experts:
        raise UserError(
            f"{model.path}: has no experts: every token passes through the same feed-forward layers",
            "take a mixture of experts (model.n_experts in a recipe, or a published one such as Qwen3-MoE)",
        )
    given = encode_input(model, text, target) if isinstance(text, str) else text
    run(model, given)
    found = []
    for layer in with_experts:
        experts = _experts(layer.block)
        assert experts is not None
        assert experts.routing is not None
        tokens = given.shown(layer.stack)
        probabilities = experts.routing.logits[-len(tokens) :].softmax(-1)  # without a trained prompt
        chosen = experts.routing.chosen[-len(tokens) :]
        weights = probabilities.gather(-1, chosen)
        if experts.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        arrays = (chosen, weights, probabilities)
        found.append(ExpertLayer(layer.name, tokens, *(one.detach().cpu().numpy() for one in arrays)))
    return found


def _experts(block: object) -> MixtureOfExperts | None:
    """The experts of a block; of a wrapped feed-forward those inside."""
    module = getattr(block, "feed_forward", None)
    module = getattr(module, "base", module)
    return module if isinstance(module, MixtureOfExperts) else None
