"""Hidden vectors of completions, with one forward pass of their shared prompt where the model supports it.

Used wherever completions are scored: DPO, reward models, rollouts, PPO and GRPO.

Shapes: N completions, T tokens, C selected positions, D width, R rows of L positions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from parakit.model.layers.masks import supports_prefix_tree
from parakit.training.micro_batches import PrefixTreeInputs


def hidden_at(
    model: Any, input_ids: Tensor, selected: Tensor, branched: PrefixTreeInputs | None
) -> tuple[Tensor, Tensor | None]:
    """The vectors (C, D) of `model.hidden` at the `selected` positions, (N, T) bool, of `input_ids` (N, T); and the mask
    (R, L) of real positions in the rows of `branched`, else None.

    Without `branched` every completion is a row, padded on the right, where causal attention does not look.
    """
    if branched is None:
        return model.hidden(input_ids)[selected], None
    assert supports_prefix_tree(model.config), "this model cannot share the prompt of several completions"
    hidden: Tensor = model.hidden(
        branched.input_ids, position_ids=branched.position_ids, attention_mask=branched.attention_mask
    )  # (R, L, D)
    return hidden.flatten(0, 1)[branched.places[:, : selected.shape[1]][selected]], branched.real_mask
