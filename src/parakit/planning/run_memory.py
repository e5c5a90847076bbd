"""The most memory that a run holds at once, by part, by method, and sharded over devices. Imports no torch.

On a card two moments compete: the end of the forward pass, when all activations and some logits exist, and the update, when
all gradients do and Muon's products. On a CPU the allocations of a step are replayed (`heap.py`), because the holes between
tensors are a large part of what a process holds. Weights, gradients and moments are float32; autocast to 16 bits keeps copies
of the matrices in them. Sharding divides optimizer state, then gradients, then weights by the number of devices (Rajbhandari
et al. 2020, "ZeRO", figure 1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from parakit.model.config import ModelConfig
from parakit.planning.heap.replay import heap_bytes
from parakit.planning.machines import Machine
from parakit.planning.memory import cache_bytes
from parakit.planning.runs import FROZEN, RunSpec, stacks_of
from parakit.planning.training_memory import (
    FLOAT,
    PROCESS_BYTES,
    StepShape,
    activation_floats,
    chunk_numbers,
    muon_floats,
)

MOMENTS = {"adamw": 2, "muon": 1, "adam": 2, "sgd": 1, "schedule_free": 2}  # numbers per trained parameter
CHUNK_COPIES, KERNEL_COPIES = (
    3,
    1,
)  # of a chunk of logits, on which kernels of a CPU work in place (fused_head_loss.py)
# Logits that exist as a whole: see alignment/preferences/dpo.py and `fused_log_probs_and_entropy`.
MAX_WHOLE_LOGITS, MAX_ROLLOUT_LOGITS = 2**25, 2**27
DEVICE_BYTES = (
    900_000_000  # of a card: CUDA's context, the libraries' work spaces, and what the allocator cannot use
)
# On a CPU: of a trainer's own libraries, kernels, data and checks, on top of a process that has loaded PyTorch; and what a heap
# grows by from step to step, as small objects cut its free pieces up. Measured of four steps of pre-training and tuning models
# of 1M to 135M parameters (`make bench NAME=planner`).
TRAINER_BYTES, CUT_UP = 63_000_000, 1.2
GENERATOR_BYTES = 17_000_000  # of a process that generates: kernels and what loads a model
TOKEN_BYTES = 1_930  # of a tokenizer's tables, for each token: measured of vocabularies of 4,096 and 49,152
DIVERGENCE_COPIES = 6  # of a chunk: logits, distributions and gradients of teacher and student
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
    heap: int = 0
    """On a CPU: the most that gradients, activations, logits and the update take of the process's heap, with the holes
    between them.
    """

    @property
    def peak(self) -> int:
        """The most at one time."""
        held = self.process + self.weights + self.optimizer + self.other_models
        forward = self.early_gradients + self.activations + self.logits
        return held + max(self.heap or max(forward, self.gradients + self.update), self.cache)

    def describe(self) -> str:
        """One line of text."""
        held = ("weights", "gradients", "optimizer", "activations", "logits")
        listed = ", ".join(f"{name} {getattr(self, name) / 1e9:.2f}" for name in held if getattr(self, name))
        return f"about {self.peak / 1e9:.1f} GB at the peak ({listed})"

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
    process += 0 if on_card else GENERATOR_BYTES + TOKEN_BYTES * spec.config.vocab_size
    return RunBytes(process=process, weights=weight_bytes(spec.config, bits), cache=held)


def step_bytes(step: StepShape) -> RunBytes:
    """Of one training step on one device."""
    config, process, weights = step.config, step.process_bytes, step.weight_bytes
    kernels = not (step.on_card or step.half)
    floats = sum(
        activation_floats(each, step.frozen, step.checkpointing, kernels, step.n_tokens)
        for each in stacks_of(config)
    )
    share = 0.6 if step.half else 1.0  # inputs of products are halved, residuals and norms are not
    if step.half:
        weights += 0 if step.quantized else 2 * config.n_params()["total"]
    heap = 0
    if not step.on_card:
        process += TRAINER_BYTES + TOKEN_BYTES * config.vocab_size
        heap = round(CUT_UP * share * heap_bytes(replace(step, weight_bytes=0, process_bytes=0)))
    plain = step.optimizer != "muon" or step.frozen
    gradients = FLOAT * step.n_trained
    head = 0 if step.frozen else FLOAT * config.vocab_size * config.d_token
    return RunBytes(
        process=process,
        weights=weights,
        gradients=gradients,
        optimizer=FLOAT * MOMENTS["adamw" if step.frozen else step.optimizer] * step.n_trained,
        activations=round(share * FLOAT * step.n_tokens * floats),
        logits=_logit_bytes(step),
        update=0 if plain else FLOAT * muon_floats(config),
        early_gradients=gradients if step.accumulates else head,
        heap=heap,
    )


def _logit_bytes(step: StepShape) -> int:
    n_logits = step.n_predicted * step.config.vocab_size
    if step.half:
        return WHOLE_LOGITS * FLOAT * n_logits
    chunk = max(chunk_numbers(step), min(n_logits, step.max_whole_logits))
    copies = DIVERGENCE_COPIES if step.teacher else CHUNK_COPIES if step.on_card else KERNEL_COPIES
    return FLOAT * copies * min(n_logits, chunk)


def _training_bytes(spec: RunSpec, process: int, on_card: bool) -> RunBytes:
    frozen, quantized = spec.method in FROZEN, spec.method == "qlora"
    weights = FLOAT * spec.n_parameters
    if quantized:
        weights = weight_bytes(spec.config, spec.bits if spec.bits < 16 else 4)
    n_tokens = spec.micro_batch_size * spec.texts_per_row * spec.seq_len
    whole = step_bytes(
        StepShape(
            spec.config,
            weights + FLOAT * spec.n_trained * frozen,
            spec.n_trained,
            spec.optimizer,
            n_tokens,
            round(n_tokens * spec.counted_share),
            frozen=frozen,
            quantized=quantized,
            checkpointing=spec.checkpointing,
            accumulates=spec.n_rows > spec.micro_batch_size,
            half=spec.precision in ("bfloat16", "float16", "fp8"),
            max_whole_logits={"dpo": MAX_WHOLE_LOGITS, "grpo": MAX_ROLLOUT_LOGITS}.get(spec.method, 0),
            keeps_logits=spec.method == "grpo",
            teacher=spec.teacher if spec.method == "distill" else None,
            on_card=on_card,
            process_bytes=process,
        )
    )
    others, cache = _other_models(spec)
    return replace(_sharded(whole, spec), other_models=others, cache=cache)


def _sharded(whole: RunBytes, spec: RunSpec) -> RunBytes:
    """What one of the devices holds."""
    n, states = spec.n_devices, ("optimizer", "update", "gradients", "early_gradients")
    if n == 1 or spec.sharding == "none":
        return whole
    shared = states[:2] if spec.sharding == "optimizer" else states
    parts = {name: getattr(whole, name) // n for name in shared}
    elsewhere = whole.gradients - parts.get("gradients", whole.gradients)
    parts["heap"] = max(0, whole.heap - elsewhere)
    if spec.sharding == "full":
        parts["weights"] = whole.weights // n + _largest_block(spec.config) * FLOAT
    return replace(whole, **parts)


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
