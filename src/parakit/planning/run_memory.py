"""The most memory that a run holds at once, by part, by method, and sharded over devices. Imports no torch.

Two moments compete: the end of the forward pass, when all activations and some logits exist, and the update, when all
gradients do and Muon's products, which are as large as the matrices of one shape together. Weights, gradients and moments
are float32; autocast to 16 bits keeps copies of the matrices in them. Sharding divides optimizer state, then gradients,
then weights by the number of devices (Rajbhandari et al. 2020, "ZeRO", figure 1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from parakit.model.config import ModelConfig
from parakit.planning.machines import Machine
from parakit.planning.memory import cache_bytes
from parakit.planning.runs import FROZEN, RunSpec, stacks_of
from parakit.planning.training_memory import activation_floats, muon_floats

FLOAT = 4
PROCESS_BYTES = 400_000_000  # Python, PyTorch and its buffers, the tokenizer, where it is not measured
MOMENTS = {"adamw": 2, "muon": 1, "adam": 2, "sgd": 1, "schedule_free": 2}  # numbers per trained parameter
CHUNK_COPIES, KERNEL_COPIES = (
    3,
    1,
)  # of a chunk of logits, on which kernels of a CPU work in place (fused_head_loss.py)
CHUNK, QUANTIZED_CHUNK = 2**23, 2**21  # numbers of one
MAX_WHOLE_LOGITS = 2**25  # of preferences, see alignment/preferences/dpo.py
DEVICE_BYTES = (
    900_000_000  # of a card: CUDA's context, the libraries' work spaces, and what the allocator cannot use
)
# On a CPU: of a trainer's own libraries, kernels and data, on top of a process that has loaded PyTorch; and what the backward
# pass holds in passing and the C library's allocator does not give back, relative to the activations that are kept. Measured
# of pre-training and tuning models of 1M to 25M parameters (`make bench NAME=planner`).
TRAINER_BYTES, HELD_ACTIVATIONS = 58_000_000, 1.44
HELD_WITH_ADAPTERS = 1.48  # their products are added to those of the matrices
HELD_WITH_CHECKPOINTS = 3.6  # a block that is computed again holds its results and gradients at once
GENERATOR_BYTES = 25_000_000  # of a process that generates: kernels and tokenizer
HELD_UPDATES = 2.25  # relative to what Muon computes
RETAINED = 0.69  # of these the allocator keeps when they are freed, while the update takes new memory
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
    retained: int = 0
    """Of the activations, still held during the update."""

    @property
    def peak(self) -> int:
        """The most at one time."""
        held = self.process + self.weights + self.optimizer + self.other_models
        forward = self.early_gradients + self.activations + self.logits
        return held + max(forward, self.retained + self.gradients + self.update, self.cache)

    def describe(self) -> str:
        """One line of text."""
        held = ("weights", "gradients", "optimizer", "activations", "logits")
        listed = ", ".join(f"{name} {getattr(self, name) / 1e9:.2f}" for name in held if getattr(self, name))
        return f"about {self.peak / 1e9:.1f} GB at the peak ({listed})"

    def parts(self) -> dict[str, int]:
        """Those that are not empty, by name."""
        within = ("early_gradients", "retained")
        return {name: value for name, value in asdict(self).items() if value and name not in within}


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
    process += 0 if on_card else GENERATOR_BYTES
    return RunBytes(process=process, weights=weight_bytes(spec.config, bits), cache=held)


@dataclass(frozen=True)
class StepShape:
    """A training step in numbers: of a plan, or counted of a model that exists. `n_tokens` pass the network at a time, padding
    included, and logits of `n_predicted` of them are computed.
    """

    config: ModelConfig
    weight_bytes: int
    n_trained: int
    optimizer: str
    n_tokens: int
    n_predicted: int
    frozen: bool = False
    """Whether adapters train, and not the matrices themselves."""
    quantized: bool = False
    checkpointing: bool = False
    accumulates: bool = False
    """Whether several micro-batches add up their gradients."""
    half: bool = False
    max_whole_logits: int = 0
    """Up to so many logits exist as a whole; more are computed in chunks."""
    distills: bool = False
    """Whether the logits of a teacher are there, too."""
    on_card: bool = False
    process_bytes: int = PROCESS_BYTES


def step_bytes(step: StepShape) -> RunBytes:
    """Of one training step on one device."""
    config, process, weights = step.config, step.process_bytes, step.weight_bytes
    kernels = not (step.on_card or step.half)
    floats = sum(
        activation_floats(each, step.frozen, step.checkpointing, kernels) for each in stacks_of(config)
    )
    activations, retained, held_updates = FLOAT * step.n_tokens * floats, 0, 1.0
    if not step.on_card:
        process += TRAINER_BYTES
        held = HELD_WITH_ADAPTERS if step.frozen else HELD_ACTIVATIONS
        activations = round((HELD_WITH_CHECKPOINTS if step.checkpointing else held) * activations)
        retained, held_updates = round(RETAINED * activations), HELD_UPDATES
    if step.half:
        activations = round(activations * 0.6)  # inputs of products are halved, residuals and norms are not
        weights += 0 if step.quantized else 2 * config.n_params()["total"]
    plain = step.optimizer != "muon" or step.frozen
    gradients = FLOAT * step.n_trained
    head = 0 if step.frozen else FLOAT * config.vocab_size * config.d_token
    return RunBytes(
        process=process,
        weights=weights,
        gradients=gradients,
        optimizer=FLOAT * MOMENTS["adamw" if step.frozen else step.optimizer] * step.n_trained,
        activations=activations,
        retained=retained,
        logits=_logit_bytes(step),
        update=0 if plain else round(held_updates * FLOAT * muon_floats(config)),
        early_gradients=gradients if step.accumulates else head,
    )


def _logit_bytes(step: StepShape) -> int:
    n_logits = step.n_predicted * step.config.vocab_size
    if step.half:
        return WHOLE_LOGITS * FLOAT * n_logits
    chunk = max(QUANTIZED_CHUNK if step.quantized else CHUNK, min(n_logits, step.max_whole_logits))
    copies = DIVERGENCE_COPIES if step.distills else CHUNK_COPIES if step.on_card else KERNEL_COPIES
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
            max_whole_logits=MAX_WHOLE_LOGITS if spec.method == "dpo" else 0,
            distills=spec.method == "distill",
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
