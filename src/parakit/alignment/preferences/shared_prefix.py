"""Hidden vectors of completions, with one forward pass of their shared prompt where the model supports it.

Used wherever completions are scored: DPO, reward models, rollouts, PPO and GRPO.

Shapes: N completions, T tokens, C selected positions, D width, R rows of L positions.
"""

from __future__ import annotations

from torch import Tensor

from parakit.model.heads import ActorCritic, LanguageModel, RewardModel
from parakit.model.layers.masks import supports_prefix_tree
from parakit.training.micro_batches import PrefixTreeInputs


def hidden_at(
    model: LanguageModel | ActorCritic | RewardModel,
    input_ids: Tensor,
    selected: Tensor,
    prefix_tree: PrefixTreeInputs | None,
) -> tuple[Tensor, Tensor | None]:
    """The vectors (C, D) of `model.hidden` at the `selected` positions, (N, T) bool, of `input_ids` (N, T); and the mask
    (R, L) of real positions in the rows of `prefix_tree`, else None.

    Without `prefix_tree` every completion is a row, padded on the right, where causal attention does not look.
    """
    if prefix_tree is None:
        return model.hidden(input_ids)[selected], None
    assert supports_prefix_tree(model.config), "this model cannot share the prompt of several completions"
    hidden: Tensor = model.hidden(
        prefix_tree.input_ids,
        position_ids=prefix_tree.position_ids,
        attention_mask=prefix_tree.attention_mask,
    )  # (R, L, D)
    return hidden.flatten(0, 1)[prefix_tree.places[:, : selected.shape[1]][selected]], prefix_tree.real_mask
