"""Memory of a training step, from shapes: weights, gradients, moments, activations, logits. Imports no torch.

Activations are what the backward pass reads: of a gated block about four vectors of the feed-forward's width for each
token, and ten of the model's width (counted with hooks on saved tensors; a test compares). The peak is at the end of the
forward pass, when all activations exist and few gradients, or at the end of the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from parakit.model.config import ModelConfig
from parakit.model.transformer_config import TransformerConfig
from parakit.planning.runs import stacks_of

FLOAT = 4
PROCESS_BYTES = 400_000_000  # Python, PyTorch and its buffers, the tokenizer
MOMENTS = {"adamw": 2, "muon": 1}  # numbers per trained parameter
FUSED_LOGITS = 3 * 2**23  # numbers: three chunks, see training/objectives/fused_head_loss.py
QUANTIZED_FUSED_LOGITS = 3 * 2**21


@dataclass(frozen=True)
class TrainingBytes:
    """Bytes of each part of a training step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def peak(self) -> int:
        """The most at one time, with the process itself."""
        return (
            PROCESS_BYTES
            + self.weights
            + self.optimizer
            + max(self.activations + self.logits, self.gradients)
        )

    def describe(self) -> str:
        """One line of text."""
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "moments": self.optimizer,
            "activations": self.activations,
            "logits": self.logits,
        }
        listed = ", ".join(f"{name} {n / 1e9:.2f}" for name, n in parts.items() if n)
        return f"about {self.peak / 1e9:.1f} GB at the peak ({listed})"


def training_bytes(
    config: ModelConfig,
    *,
    n_parameters: int,
    n_trained: int,
    optimizer: str,
    n_tokens: int,
    n_predicted: int = 0,
    checkpointing: bool = False,
    quantized_bytes: int = 0,
) -> TrainingBytes:
    """Of a step with `n_tokens` in each forward pass, padding included. `n_predicted`: tokens whose logits are kept whole;
    0 where the output matrix and the loss are one operation. Parameters and moments are float32; `quantized_bytes`: of
    quantized weights, which are no parameters and frozen.
    """
    stacks = stacks_of(config)
    frozen = quantized_bytes > 0 or n_trained < n_parameters / 2
    per_token = sum(activation_floats(stack, frozen, checkpointing) for stack in stacks)
    logits = 3 * (n_predicted or n_tokens) * config.vocab_size
    fused = QUANTIZED_FUSED_LOGITS if quantized_bytes else FUSED_LOGITS
    logits = logits if n_predicted else min(logits, fused)
    return TrainingBytes(
        weights=FLOAT * n_parameters + quantized_bytes,
        gradients=FLOAT * n_trained,
        optimizer=FLOAT * MOMENTS[optimizer] * n_trained,
        activations=FLOAT * n_tokens * per_token,
        logits=FLOAT * logits,
    )


def activation_floats(stack: TransformerConfig, frozen: bool, checkpointing: bool) -> int:
    """Numbers of one token that the backward pass reads. Frozen matrices need no inputs, but adapters on them do."""
    wide = stack.n_heads * stack.head_dim
    narrow = stack.n_kv_heads * stack.head_dim
    hidden = (4 if stack.gated else 2) * stack.d_ff * (stack.n_active_experts if stack.n_experts else 1)
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
