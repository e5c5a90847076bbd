"""torch.compile for each block, when it saves time.

The blocks of a model are alike, so compiling one by one costs a fraction of compiling the whole model and runs as fast.
`choose_compilation` times an eager step on the first batch and compares the time saved with the cost of compiling, both
as measured on this machine earlier (stored next to PyTorch's compile cache), or as guessed the first time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from parakit.common.files import cache_folder, read_json, write_json_atomic
from parakit.common.settings import config_digest
from parakit.model.heads import SequenceToSequence, TransformerModel
from parakit.model.kernels.library import load_training_kernels
from parakit.model.layers.experts import MixtureOfExperts
from parakit.training.micro_batches import MicroBatch, Objective, TrainingBatch, input_ids_of

# From benchmarks/results; used until this machine has measurements.
GUESSED_SPEEDUP, GUESSED_COLD_SECONDS = 1.3, 22.0
# Of blocks that Parakit's own kernels compute, compiled code takes 1.07 times as long (docs/log.md, 2026-11-30).
SPEEDUP_OVER_KERNELS = 0.93


@dataclass(frozen=True)
class CompileChoice:
    """Whether to compile, and why."""

    compiled: bool
    reason: str
    eager_seconds: float = 0.0  # forward and backward of one step; 0: not timed


def compile_blocks(model: TransformerModel, dynamic: bool = False, backend: str = "inductor") -> None:
    """Compile each block of `model` in place; `dynamic`: once for all sequence lengths; `backend`: of torch.compile.
    Parameter names do not change.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    for experts in {type(module) for module in model.modules() if isinstance(module, MixtureOfExperts)}:
        _keep_eager(experts)  # type: ignore[arg-type]  # a class is hashable
    for block in model.trunk.blocks:
        block.compile(dynamic=dynamic, backend=backend)


@functools.cache
def _keep_eager(experts: type[MixtureOfExperts]) -> None:
    """The sizes of the experts' groups are data: traced, they would be recompiled for every batch. Not a decorator of the
    class, because `torch.compiler.disable` imports the compiler, which takes longer than all else that loads a model.
    """
    setattr(experts, "forward", torch.compiler.disable(experts.forward))  # noqa: B010 (a method, to mypy)


@contextlib.contextmanager
def without_compiled_code(model: TransformerModel) -> Iterator[None]:
    """Run the blocks eagerly inside the context."""
    compiled_calls = [block._compiled_call_impl for block in model.trunk.blocks]
    for block in model.trunk.blocks:
        block._compiled_call_impl = None
    try:
        yield
    finally:
        for block, compiled in zip(model.trunk.blocks, compiled_calls, strict=True):
            block._compiled_call_impl = compiled


def discard_compiled_code(model: TransformerModel) -> None:
    """Make the blocks eager again."""
    for block in model.trunk.blocks:
        block._compiled_call_impl = None


def choose_compilation(
    setting: str,
    model: TransformerModel,
    objective: Objective,
    batches: Sequence[TrainingBatch],
    n_steps: int,
) -> CompileChoice:
    """Decide for a run of `n_steps` steps, each like `batches`. Changes no weights, gradients or random state."""
    if setting != "auto":
        return CompileChoice(setting == "on", f"compile: {setting}")
    if not can_compile(input_ids_of(batches[0]).device):
        return CompileChoice(False, "no C++ compiler on this machine")
    speedup, cost = expected_gain(model, batches)
    if speedup <= 1:  # then nothing has to be timed
        return CompileChoice(False, "compiled blocks are no faster than the kernels here")
    eager = time_step(model, objective, batches)
    saved = n_steps * eager * (1 - 1 / speedup)
    reason = f"{n_steps} steps of {eager * 1e3:.0f} ms; compiling saves {saved:.0f} s and costs {cost:.0f} s"
    return CompileChoice(saved > 1.2 * cost, reason, eager)


def can_compile(device: torch.device) -> bool:
    """Whether PyTorch can compile here; for a CPU it needs a C++ compiler."""
    return device.type != "cpu" or shutil.which(os.environ.get("CXX", "g++")) is not None


def expected_gain(model: TransformerModel, batches: Sequence[TrainingBatch]) -> tuple[float, float]:
    """The speedup of compiled steps, and the seconds of compiling: as measured on this machine for such a model and
    batches, or a guess.
    """
    measured = _read_measurement(model, batches)
    guess = GUESSED_COLD_SECONDS * (
        2 if isinstance(model, SequenceToSequence) else 1
    )  # encoder and decoder blocks
    guess *= 2 if lengths_vary(batches) else 1
    speedup = (
        SPEEDUP_OVER_KERNELS if kernels_compute(model, input_ids_of(batches[0]).device) else GUESSED_SPEEDUP
    )
    return measured.get("speedup", speedup), measured.get("seconds", guess)


def kernels_compute(model: TransformerModel, device: torch.device) -> bool:
    """Whether Parakit's own kernels compute what is between the products of the blocks; see `model/kernels/training.py`."""
    config = model.config.decoder if isinstance(model, SequenceToSequence) else model.config
    of_kernels = config.norm == "rms" and config.gated and config.activation == "silu"
    in_float32 = device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return of_kernels and in_float32 and load_training_kernels() is not None


def time_step(
    model: TransformerModel, objective: Objective, batches: Sequence[TrainingBatch], repeats: int = 2
) -> float:
    """Seconds of one eager forward and backward pass, the fastest of `repeats`; restores the random state."""
    rng_state = torch.get_rng_state()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for batch in batches:
            if batch.n_counted:
                objective(model, batch).backward()
        if input_ids_of(batches[0]).device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    for parameter in model.parameters():
        parameter.grad = None
    torch.set_rng_state(rng_state)
    return min(seconds)


def lengths_vary(batches: Sequence[TrainingBatch]) -> bool:
    """Whether batches differ in length: examples and pairs are padded batch by batch, windows of text are equal."""
    return not isinstance(batches[0], MicroBatch)


def _key(model: TransformerModel, batches: Sequence[TrainingBatch]) -> str:
    """A digest of everything that the compiled code depends on."""
    shape = list(input_ids_of(batches[0]).shape)  # without masks, which not every batch has
    key = model.config.model_dump() | {"model": type(model).__name__, "torch": torch.__version__}
    key |= {"rows": shape[0]} if lengths_vary(batches) else {"shape": shape, "n": batches[0].n_tokens}
    return config_digest(key)[:16]


def _read_measurement(model: TransformerModel, batches: Sequence[TrainingBatch]) -> dict[str, float]:
    """What this machine measured for this model and batches, if anything: `speedup`, and the `seconds` of compiling
    with the cache in its present state.
    """
    path = cache_folder() / "compile.json"
    with contextlib.suppress(ValueError, OSError):
        return read_json(path).get(_key(model, batches), {})
    return {}


def save_measurement(
    model: TransformerModel, batches: Sequence[TrainingBatch], choice: CompileChoice, seconds: Sequence[float]
) -> None:
    """Store speedup and cost of compiling for the next run, from the `seconds` of a run's first steps; the first step
    includes compiling.

    The next run finds the compiled code in the cache; loading takes about a fifth of compiling.
    """
    typical = sorted(seconds[1:])[len(seconds) // 2 - 1]
    warm = "seconds" in _read_measurement(model, batches)
    measurement = {
        "speedup": choice.eager_seconds / typical,
        "seconds": (seconds[0] - typical) * (1.0 if warm else 0.2),
    }
    path = cache_folder() / "compile.json"
    with contextlib.suppress(ValueError, OSError):  # without the file the next run guesses
        path.parent.mkdir(parents=True, exist_ok=True)
        table = read_json(path) if path.exists() else {}
        write_json_atomic(path, table | {_key(model, batches): measurement})
