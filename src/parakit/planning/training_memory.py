"""Numbers that a training step holds, from shapes: activations, and what Muon's update makes. Imports no torch.

Activations are what the backward pass reads: of a gated block about four vectors of the feed-forward's width for each
token, and ten of the model's width (counted with hooks on saved tensors; a test compares). On a CPU the kernels compute
two of the former again, one where adapters train (`model/kernels/training.py`).
"""

from __future__ import annotations

from parakit.model.config import ModelConfig
from parakit.model.transformer_config import TransformerConfig
from parakit.planning.runs import stacks_of


def activation_floats(
    stack: TransformerConfig, frozen: bool, checkpointing: bool, kernels: bool = False
) -> int:
    """Numbers of one token that the backward pass reads. Frozen matrices need no inputs, but adapters on them do."""
    wide = stack.n_heads * stack.head_dim
    narrow = stack.n_kv_heads * stack.head_dim
    inner = 4 if stack.gated else 2
    if kernels and stack.gated and stack.activation == "silu":
        inner = 3 if frozen else 2
    hidden = inner * stack.d_ff * (stack.n_active_experts if stack.n_experts else 1)
    block = hidden + (4 if frozen else 6) * stack.d_model + 3 * wide + 4 * narrow
    ends = 5 * stack.d_model
    if checkpointing:
        return ends + block + stack.n_layers * stack.d_model
    return ends + stack.n_layers * block


def muon_floats(config: ModelConfig) -> int:
    """Numbers that Muon holds while it updates all matrices of one shape: gradients, iterate and product of each."""
    groups: dict[tuple[int, int], int] = {}
    for number, stack in enumerate(stacks_of(config)):
        wide, narrow, d = stack.n_heads * stack.head_dim, stack.n_kv_heads * stack.head_dim, stack.d_model
        attention = [(d, wide), (d, narrow), (d, narrow), (d, wide)] * (2 if number else 1)
        for layer in range(stack.n_layers):
            experts = stack.has_experts(layer)
            width, n = ((stack.d_expert or stack.d_ff), stack.n_experts) if experts else (stack.d_ff, 1)
            for shape in [*attention, *[(d, width)] * (3 if stack.gated else 2) * n]:
                key = (min(shape), max(shape))
                groups[key] = groups.get(key, 0) + shape[0] * shape[1]
    return 3 * max(groups.values())
