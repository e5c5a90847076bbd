"""The most memory that a run holds at once, by part, by method, and sharded over devices. Imports no torch.

Two moments compete: the end of the forward pass, when all activations and some logits exist, and the update, when all
gradients do and Muon's products, which are as large as the matrices of one shape together. Weights, gradients and moments
are float32; autocast to 16 bits keeps copies of the matrices in them. Sharding divides optimizer state, then gradients,
then weights by the number of devices (Rajbhandari et al. 2020, "ZeRO", figure 1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from parakit.model.config import ModelConfig
from parakit.planning.machines import Machine
from parakit.planning.memory import cache_bytes
from parakit.planning.runs import FROZEN, RunSpec, stacks_of
from parakit.planning.training_memory import (
    FLOAT,
    FUSED_LOGITS,
    PROCESS_BYTES,
    QUANTIZED_FUSED_LOGITS,
    activation_floats,
    muon_floats,
)

DEVICE_BYTES = (
    900_000_000  # of a card: CUDA's context, the libraries' work spaces, and what the allocator cannot use
)
# On a CPU: of a trainer's own libraries, kernels and data, on top of a process that has loaded PyTorch; and what the backward
# pass holds in passing and the C library's allocator does not give back, relative to the activations that are kept. Measured
# of pre-training and tuning models of 1M to 25M parameters (`make bench NAME=planner`).
TRAINER_BYTES, HELD_ACTIVATIONS = 75_000_000, 1.45
USABLE = 0.9  # of the memory that is there: the rest is for what the estimate misses
WHOLE_LOGITS = 2  # copies in 16 bits and below: logits, and their gradient, in float32


@dataclass(frozen=True)
class RunBytes:
    """Bytes of each part, on the device with the most."""

    process: int = 0
    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    update: int = 0
    """What the optimizer holds while it computes an update."""
    other_models: int = 0
    cache: int = 0
    early_gradients: int = 0
    """Those that exist when the forward pass ends: the output matrix's, or all when micro-batches accumulate."""

    @property
    def peak(self) -> int:
        """The most at one time."""
        held = self.process + self.weights + self.optimizer + self.other_models
        forward = self.early_gradients + self.activations + self.logits
        return held + max(forward, self.gradients + self.update, self.cache)

    def parts(self) -> dict[str, int]:
        """Those that are not empty, by name."""
        return {name: value for name, value in asdict(self).items() if value and name != "early_gradients"}


def run_bytes(spec: RunSpec, machine: Machine | None = None) -> RunBytes:
    """Of `spec` on one of the devices of `machine`; None: a process on a CPU, uncalibrated."""
    on_card = machine is not None and not machine.is_measured
    process = DEVICE_BYTES if on_card else PROCESS_BYTES
    if machine is not None and machine.calibration:
        process = machine.calibration.process_bytes
    if spec.method == "inference":
        return _inference_bytes(spec, process, on_card)
    return _training_bytes(spec, process, on_card)


def available_bytes(machine: Machine) -> int:
    """Of one device, that a run may use."""
    return int(USABLE * machine.memory_bytes)


def weight_bytes(config: ModelConfig, bits: int) -> int:
    """Of a model whose matrices have so many bits a weight; in groups of 32, a scale and a zero of 16 bits each come with 4
    bits, and one scale a row with 8.
    """
    n = config.n_params()["total"]
    if bits >= 16:
        return n * bits // 8
    per_weight = bits / 8 + (4 / 32 if bits == 4 else 0)
    return round(n * per_weight)


def _inference_bytes(spec: RunSpec, process: int, on_card: bool) -> RunBytes:
    bits = spec.bits if on_card or spec.bits < 16 else 32
    cache = cache_bytes(spec.config, 2 if on_card else FLOAT)
    held = cache.per_token * spec.seq_len * spec.n_rows if cache else 0
    if cache and spec.config.family == "encoder-decoder":
        held += cache.per_source_token * spec.seq_len * spec.n_rows
    return RunBytes(process=process, weights=weight_bytes(spec.config, bits), cache=held)


def _training_bytes(spec: RunSpec, process: int, on_card: bool) -> RunBytes:
    config, trained, frozen = spec.config, spec.n_trained, spec.method in FROZEN
    half = spec.precision in ("bfloat16", "float16", "fp8")
    rows = spec.micro_batch_size * spec.texts_per_row
    n_tokens = rows * spec.seq_len
    n_predicted = round(n_tokens * spec.counted_share)
    floats = sum(activation_floats(stack, frozen, spec.checkpointing) for stack in stacks_of(config))
    activations = FLOAT * n_tokens * floats
    weights = FLOAT * spec.n_parameters
    if spec.method == "qlora":
        weights = weight_bytes(config, spec.bits if spec.bits < 16 else 4)
    if frozen:
        weights += FLOAT * trained
    if not on_card:
        process += TRAINER_BYTES
        activations = round(HELD_ACTIVATIONS * activations)
    if half:
        activations = round(activations * 0.6)  # inputs of products are halved, residuals and norms are not
        weights += 0 if frozen and spec.method == "qlora" else 2 * spec.n_parameters
        logits = WHOLE_LOGITS * FLOAT * n_predicted * config.vocab_size
    else:
        fused = QUANTIZED_FUSED_LOGITS if spec.method == "qlora" else FUSED_LOGITS
        logits = FLOAT * min(3 * n_predicted * config.vocab_size, fused)
    moments = 2 if spec.optimizer == "adamw" or frozen else 1
    optimizer, gradients = FLOAT * moments * trained, FLOAT * trained
    update = 0 if spec.optimizer == "adamw" or frozen else FLOAT * muon_floats(config)
    head = 0 if frozen else FLOAT * config.vocab_size * config.d_token
    early = gradients if spec.n_rows > spec.micro_batch_size else head
    others, cache = _other_models(spec)
    n = spec.n_devices
    parts = {"optimizer": optimizer, "update": update, "gradients": gradients, "early_gradients": early}
    shards = {"none": (), "optimizer": ("optimizer", "update")}.get(spec.sharding, tuple(parts))
    parts = {name: value // n if name in shards else value for name, value in parts.items()}
    weights = weights // n + _largest_block(config) * FLOAT * (n > 1) if spec.sharding == "full" else weights
    return RunBytes(
        process=process,
        weights=weights,
        activations=activations,
        logits=logits,
        other_models=others,
        cache=cache,
        **parts,
    )


def _other_models(spec: RunSpec) -> tuple[int, int]:
    """Bytes of a teacher or a reference, and of the cache of completions."""
    if spec.method == "distill" and spec.teacher is not None:
        return FLOAT * spec.teacher.n_params()["total"], 0
    if spec.method != "grpo":
        return 0, 0
    cache = cache_bytes(spec.config, FLOAT)
    return FLOAT * spec.n_parameters, (cache.per_token if cache else 0) * spec.seq_len * spec.n_rows


def _largest_block(config: ModelConfig) -> int:
    """Parameters that one device gathers at a time when weights are sharded: a block, or the embedding."""
    of_blocks = config.n_params()["total"] - config.vocab_size * config.d_token
    return max(of_blocks // config.n_layers, config.vocab_size * config.d_token)
