"""The vectors of completions, their prompts read once where the model allows it.

One function for all that score completions: DPO and its kin, reward models, rollouts, and what learns from them.

Shapes: N completions, T tokens, C wanted places, D width, R rows of L places.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from parakit.model.layers.masks import supports_prefix_tree
from parakit.training.micro_batches import PrefixTreeInputs


def hidden_at(
    model: Any, input_ids: Tensor, wanted: Tensor, branched: PrefixTreeInputs | None
) -> tuple[Tensor, Tensor | None]:
    """The vectors (C, D) that `model.hidden` gives at the `wanted` places, (N, T) bool, of `input_ids` (N, T); and which
    places that passed the network are real, (R, L) bool, where these are the rows of `branched`, else None.

    Without `branched` every completion is a row of its own, padded on the right, where causal attention cannot look.
    """
    if branched is None:
        return model.hidden(input_ids)[wanted], None
    assert supports_prefix_tree(model.config), (
        "this model's completions cannot share the reading of their prompt"
    )
    hidden: Tensor = model.hidden(
        branched.input_ids, position_ids=branched.position_ids, attention_mask=branched.attention_mask
    )  # (R, L, D)
    return hidden.flatten(0, 1)[branched.places[:, : wanted.shape[1]][wanted]], branched.real_mask
