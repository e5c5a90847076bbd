"""Seconds of one step: on the machine at hand from its calibration, part by part; on a card from its peak. Imports no torch.

A step on a card takes its operations over the FLOP/s that training reaches (`machines.py`); writing tokens takes no less
than the bytes of weights and cache over the bandwidth (Pope et al. 2022). Steps too small to fill a card take longer than
that. What is measured here is measured of blocks, heads and updates as they are, so small models are right, too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from parakit.model.config import ModelConfig
from parakit.planning.calibration import MeasuredSpeeds, interpolate
from parakit.planning.machines import BANDWIDTH_SHARE, Machine
from parakit.planning.memory import cache_bytes
from parakit.planning.operations import (
    head_flops,
    inference_flops,
    matrix_flops,
    newton_schulz_flops,
    score_flops,
    step_operations,
)
from parakit.planning.runs import FROZEN, RunSpec, stacks_of
from parakit.planning.training_memory import SMALL_MATRIX

FORWARD_LOGITS = 0.4  # of a logit's time in training, without gradients
SCORED = ("dpo", "grpo")  # whose losses are of log-probabilities
STEP_OVERHEAD = 1.08  # of batches and what lies between the parts that are timed


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of the parts of one step."""

    blocks: float = 0.0
    attention: float = 0.0
    head: float = 0.0
    optimizer: float = 0.0
    other_models: float = 0.0
    generation: float = 0.0
    all: float = 0.0
    """Of a card, whose parts are not timed apart."""

    @property
    def total(self) -> float:
        """Of the step."""
        return sum(asdict(self).values())


def step_seconds(spec: RunSpec, machine: Machine) -> StepSeconds:
    """Of one optimizer step; for inference of one new token in every sequence."""
    if machine.calibration is None:
        return _on_card(spec, machine)
    return _measured(spec, machine.calibration)


def _on_card(spec: RunSpec, machine: Machine) -> StepSeconds:
    operations = step_operations(spec)
    if spec.method == "inference":
        computing = operations.total / machine.flops(spec.precision)
        return StepSeconds(all=max(computing, _reading(spec, machine)))
    written = 0.0
    if operations.generated:
        steps = spec.n_new_tokens / spec.passes
        each = _reading(spec.changed(seq_len=spec.seq_len - spec.n_new_tokens // 2), machine)
        written = max(steps * each, operations.generated / machine.flops(spec.precision))
    return StepSeconds(
        all=(operations.total - operations.generated) / machine.flops(spec.precision), generation=written
    )


def _reading(spec: RunSpec, machine: Machine) -> float:
    """Seconds in which the weights and the cache of all sequences pass through memory once."""
    n_bytes = decode_bytes(spec.config, spec.seq_len, spec.n_rows, spec.bits)
    return n_bytes / (machine.bandwidth * BANDWIDTH_SHARE * machine.n_devices)


def decode_bytes(config: ModelConfig, context: int, n_sequences: int, bits: int) -> float:
    """Bytes that one decoding step reads: active weights, and the keys and values of `context` tokens a sequence."""
    value_bytes = 4 if bits == 32 else 2
    cache = cache_bytes(config, value_bytes)
    cached = n_sequences * (cache.per_token * context if cache else 0)
    n_read = inference_flops(config, 0) / 2
    return n_read * bits / 8 + cached


def _measured(spec: RunSpec, speeds: MeasuredSpeeds) -> StepSeconds:
    if spec.method == "inference":
        return StepSeconds(generation=_decoding_step(spec, speeds))
    config, gain = spec.config, speeds.bfloat16_gain if spec.precision == "bfloat16" else 1.0
    frozen = spec.method in FROZEN
    width, n_predicted = _width(config), spec.n_tokens * spec.counted_share
    matrices = spec.n_tokens * matrix_flops(config)
    kind, times = ("adapters", 2) if frozen else ("train", 3)
    blocks = times * matrices / speeds.block_speed(kind, width) + _calls(spec, speeds)
    if spec.method == "qlora":
        blocks /= speeds.quantized_gain
    attention = 3 * spec.n_tokens * score_flops(config, _attended(spec)) / speeds.scores_train
    if spec.checkpointing:
        blocks += matrices / speeds.block_speed("forward", width)
        attention += spec.n_tokens * score_flops(config, _attended(spec)) / speeds.scores_forward
    of_logit = speeds.scored_training_logit_seconds if spec.method in SCORED else None
    logits = n_predicted * config.vocab_size * (of_logit or speeds.logit_seconds)
    head = times * n_predicted * head_flops(config) / speeds.head_train + logits
    others = generation = 0.0
    if spec.method == "distill" and spec.teacher is not None:
        others = _forward_seconds(spec.teacher, spec.n_tokens, spec.seq_len, n_predicted, speeds)
        is_small = config.vocab_size * config.d_token <= SMALL_MATRIX
        each = speeds.small_divergence_seconds if is_small else speeds.divergence_seconds
        head += n_predicted * config.vocab_size * each
    if spec.method == "grpo":
        n_read = spec.n_tokens / spec.passes
        others = _scoring_seconds(spec, n_read, n_predicted / spec.passes, speeds)
        generation = _rollout_seconds(spec, speeds) / spec.passes
    gain /= STEP_OVERHEAD
    return StepSeconds(
        blocks / gain, attention / gain, head / gain, _update_seconds(spec, speeds), others, generation
    )


def _calls(spec: RunSpec, speeds: MeasuredSpeeds) -> float:
    """Seconds of the calls of every block, for each micro-batch."""
    n_passes = -(-spec.n_rows // max(1, spec.micro_batch_size))
    return n_passes * sum(stack.n_layers for stack in stacks_of(spec.config)) * speeds.block_seconds


def _attended(spec: RunSpec) -> int:
    """The length of causal rows in which a token attends to as many positions. The two texts of a pair are one row with
    their prompt once; a mask, with which no half of the positions is skipped, keeps them apart.
    """
    return 2 * spec.texts_per_row * spec.seq_len if spec.texts_per_row > 1 else spec.seq_len


def _scoring_seconds(spec: RunSpec, n_tokens: float, n_predicted: float, speeds: MeasuredSpeeds) -> float:
    """Of the reference's log-probabilities, which the engine computes where it can."""
    if speeds.scoring_flops is None:
        return _forward_seconds(spec.config, n_tokens, spec.seq_len, n_predicted, speeds)
    each = matrix_flops(spec.config) + score_flops(spec.config, spec.seq_len)
    computing = n_tokens * each + n_predicted * head_flops(spec.config)
    recording = spec.config.vocab_size * speeds.scored_logit_seconds + speeds.scored_token_seconds
    return computing / speeds.scoring_flops + n_predicted * recording


def _update_seconds(spec: RunSpec, speeds: MeasuredSpeeds) -> float:
    n_blocks = sum(stack.n_layers for stack in stacks_of(spec.config))
    return n_blocks * speeds.block_step_seconds + _numbers_seconds(spec, speeds)


def _numbers_seconds(spec: RunSpec, speeds: MeasuredSpeeds) -> float:
    if spec.optimizer != "muon" or spec.method in FROZEN:
        return spec.n_trained * speeds.adamw_seconds
    of_blocks = sum(
        n for name, n in spec.config.n_params().items() if name.endswith(("attention", "feed_forward"))
    )
    muon = newton_schulz_flops(spec.config) / speeds.block_speed("muon", _width(spec.config))
    return muon + (spec.n_trained - of_blocks) * speeds.adamw_seconds


def _forward_seconds(
    config: ModelConfig, n_tokens: float, seq_len: int, n_predicted: float, speeds: MeasuredSpeeds
) -> float:
    blocks = n_tokens * matrix_flops(config) / speeds.block_speed("forward", _width(config))
    attention = n_tokens * score_flops(config, seq_len) / speeds.scores_forward
    head = n_predicted * (
        head_flops(config) / speeds.head_train + FORWARD_LOGITS * config.vocab_size * speeds.logit_seconds
    )
    return blocks + attention + head


def _rollout_seconds(spec: RunSpec, speeds: MeasuredSpeeds) -> float:
    """Of the completions of one phase: prompts once for each group, then a step for each token."""
    n_prompt = spec.seq_len - spec.n_new_tokens
    reading = spec.n_rows / spec.group_size * n_prompt * matrix_flops(spec.config) / speeds.prefill_flops
    middle = spec.changed(method="inference", bits=32, seq_len=n_prompt + spec.n_new_tokens // 2)
    drawing = spec.n_rows * (spec.config.vocab_size * speeds.draw_seconds + speeds.sequence_seconds)
    return speeds.rollout_seconds + reading + spec.n_new_tokens * (_decoding_step(middle, speeds) + drawing)


def _decoding_step(spec: RunSpec, speeds: MeasuredSpeeds) -> float:
    """One token for each of `n_rows` sequences. A CPU decodes in float32 where weights are not quantized."""
    bits = 32 if spec.bits == 16 else spec.bits
    n_bytes = decode_bytes(spec.config, spec.seq_len, 1, bits)
    each = inference_flops(spec.config, spec.seq_len)
    more = (spec.n_rows - 1) * each / interpolate(speeds.decode_flops, _width(spec.config))
    return speeds.decoding_seconds(n_bytes) + more


def _width(config: ModelConfig) -> float:
    return float(config.d_model)
