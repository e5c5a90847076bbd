"""Floating-point operations of a run: the rule 6 N D, and counted from the shapes. Imports no torch.

A matrix of N weights takes 2 N operations a token forward and 4 N backward: half of these for the gradient of its inputs,
half for its own, which frozen weights do not need. Attention's scores and sums come on top (Kaplan et al. 2020, section
2.1; Hoffmann et al. 2022, appendix F). Element-wise work is left out, as usual. The tests compare with
`torch.utils.flop_counter`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.planning.runs import FROZEN, RunSpec, stacks_of


@dataclass(frozen=True)
class Operations:
    """Of one step, in floating-point operations."""

    forward: float
    backward: float
    recomputed: float = 0.0
    """By gradient checkpointing: the blocks' forward pass once more."""
    other_models: float = 0.0
    """Forward passes of a teacher or a reference."""
    generated: float = 0.0
    """Of tokens that the policy writes."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.forward + self.backward + self.recomputed + self.other_models + self.generated


def six_nd(n_params: float, n_tokens: float) -> float:
    """6 N D."""
    return 6.0 * n_params * n_tokens


def matrix_flops(config: ModelConfig) -> float:
    """Forward, of one token, in the matrices of the blocks; of an encoder-decoder the mean of its two sides."""
    blocks = 2.0 * (config.n_matmul_params() - _head_params(config))
    return blocks / 2 if isinstance(config, EncoderDecoderConfig) else blocks


def head_flops(config: ModelConfig) -> float:
    """Forward, of one predicted token, in the output matrix."""
    return 2.0 * _head_params(config)


def score_flops(config: ModelConfig, seq_len: int) -> float:
    """Forward, of one token, in attention's scores and sums, over the positions that it attends to."""
    flops = config.flops_per_token(seq_len, training=False) - 2.0 * config.n_matmul_params()
    return flops / 2 if isinstance(config, EncoderDecoderConfig) else flops


def forward_flops(config: ModelConfig, n_tokens: float, seq_len: int, n_predicted: float) -> float:
    """A forward pass over `n_tokens` in rows of `seq_len`, with logits of `n_predicted` of them."""
    each = matrix_flops(config) + score_flops(config, seq_len)
    return n_tokens * each + n_predicted * head_flops(config)


def step_operations(spec: RunSpec) -> Operations:
    """Of one optimizer step; for inference of writing one token in every sequence, `seq_len` tokens in."""
    if spec.method == "inference":
        return Operations(forward=spec.n_rows * inference_flops(spec.config, spec.seq_len), backward=0.0)
    predicted = spec.n_tokens * spec.counted_share
    forward = forward_flops(spec.config, spec.n_tokens, spec.seq_len, predicted)
    scores = spec.n_tokens * score_flops(spec.config, spec.seq_len)
    # frozen matrices have gradients of their inputs only; scores have no weights
    backward = forward + scores if spec.method in FROZEN else 2 * forward
    blocks = forward - predicted * head_flops(spec.config)
    others = generated = 0.0
    if spec.teacher is not None and spec.method == "distill":
        others = forward_flops(spec.teacher, spec.n_tokens, spec.seq_len, predicted)
    if spec.method == "grpo":
        each = spec.passes  # the rollouts of a phase serve several steps
        others = forward / each  # the reference's log-probabilities
        written = spec.n_rows * spec.n_new_tokens
        generated = written * inference_flops(spec.config, spec.seq_len - spec.n_new_tokens // 2) / each
        n_read = spec.n_rows * (spec.seq_len - spec.n_new_tokens) / spec.group_size
        generated += forward_flops(spec.config, n_read, spec.seq_len, 0) / each
    recomputed = blocks if spec.checkpointing else 0.0
    return Operations(forward, backward, recomputed, others, generated)


def inference_flops(config: ModelConfig, context: int) -> float:
    """Of writing one token with `context` cached ones: 2 N and the attention to them (Pope et al. 2022)."""
    if isinstance(config, EncoderDecoderConfig):
        decoder = config.decoder
        of_encoder = config.encoder.n_matmul_params() - _head_params(config.encoder)
        scores = 4.0 * decoder.n_layers * decoder.n_heads * decoder.head_dim * context
        return 2.0 * (config.n_matmul_params() - of_encoder) + 2 * scores  # to the source as well
    matrices = matrix_flops(config) + head_flops(config)
    return matrices + sum(_cached_scores(config, layer, context) for layer in range(config.n_layers))


def _cached_scores(config: ModelConfig, layer: int, context: int) -> float:
    assert not isinstance(config, EncoderDecoderConfig)
    width = config.n_heads * config.head_dim
    if config.is_recurrent(layer) and config.delta_rule is not None:
        rule = config.delta_rule
        return 6.0 * rule.n_value_heads * rule.key_dim * rule.value_dim
    if config.attention == "linear":
        return 4.0 * width * config.head_dim
    window = config.sliding_window if config.is_local(layer) else None
    return 4.0 * width * min(context, window or context)


def newton_schulz_flops(config: ModelConfig) -> float:
    """Of one update by Muon: five iterations of three products for each matrix R x C of the blocks (Jordan et al. 2024)."""
    total = 0.0
    for number, stack in enumerate(stacks_of(config)):
        wide, narrow, d = stack.n_heads * stack.head_dim, stack.n_kv_heads * stack.head_dim, stack.d_model
        attention = [(d, wide), (d, narrow), (d, narrow), (wide, d)] * (2 if number else 1)
        for layer in range(stack.n_layers):
            n_experts = stack.n_experts if stack.has_experts(layer) else 1
            width = (stack.d_expert or stack.d_ff) if stack.has_experts(layer) else stack.d_ff
            shapes = [*attention, *([(d, width)] * (3 if stack.gated else 2) * n_experts)]
            total += sum(map(newton_schulz_flops_of, shapes))
    return total


def newton_schulz_flops_of(shape: Sequence[int]) -> float:
    """Of the update of one matrix."""
    short, long = sorted(shape)
    return 5 * (4.0 * short**2 * long + 2.0 * short**3)


def _head_params(config: ModelConfig) -> float:
    """Of the output matrix, with what transforms its input."""
    stack = config.decoder if isinstance(config, EncoderDecoderConfig) else config
    transform = stack.d_model * stack.d_token if stack.head_transform else 0
    narrow = 0
    if stack.d_embedding is not None:
        narrow = 0 if stack.factorized_embedding else stack.d_embedding * stack.d_model
    return float(stack.d_token * stack.vocab_size + transform + narrow)
