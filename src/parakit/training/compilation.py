"""Compilation when it pays.

Every block is compiled by itself: the blocks of a model are alike, so the compiler works once and the rest
is a look-up, which costs a fraction of compiling the whole model and runs as fast. Whether it pays is
decided from figures, not from a flag: the eager step is timed on the first batch, the gain and the cost of
compiling are those that this machine measured before (stored next to PyTorch's own compile cache), or careful
guesses the first time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from parakit.common.files import read_json, write_json_atomic
from parakit.common.settings import config_digest
from parakit.model.heads import SequenceToSequence, TransformerModel
from parakit.training.micro_batches import MicroBatch, Objective, TrainingBatch, device_of, tensors

# The gain on the machines measured for benchmarks/results: used until this machine has figures of its own.
GUESSED_SPEEDUP, GUESSED_COLD_SECONDS = 1.3, 22.0


@dataclass(frozen=True)
class CompileChoice:
    """Whether to compile, and the figures behind it."""

    compiled: bool
    reason: str
    eager_seconds: float = 0.0  # forward and backward of one step, where it was timed


def cache_folder() -> Path:
    """Where compiled code and its figures live between runs: PARAKIT_CACHE, or `~/.cache/parakit`."""
    return Path(os.environ.get("PARAKIT_CACHE", Path.home() / ".cache" / "parakit"))


def compile_blocks(model: TransformerModel, dynamic: bool = False) -> None:
    """Compile each block of `model` in place, once for all lengths where they are `dynamic`; parameter names stay
    as they are.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    for block in model.trunk.blocks:
        block.compile(dynamic=dynamic)


@contextlib.contextmanager
def without_compiled_code(model: TransformerModel) -> Iterator[None]:
    """Run the blocks as plain Python for the length of the block."""
    compiled_calls = [block._compiled_call_impl for block in model.trunk.blocks]
    for block in model.trunk.blocks:
        block._compiled_call_impl = None
    try:
        yield
    finally:
        for block, compiled in zip(model.trunk.blocks, compiled_calls, strict=True):
            block._compiled_call_impl = compiled


def discard_compiled_code(model: TransformerModel) -> None:
    """Make the blocks plain Python again."""
    for block in model.trunk.blocks:
        block._compiled_call_impl = None


def choose(
    setting: str,
    model: TransformerModel,
    objective: Objective,
    batches: Sequence[TrainingBatch],
    n_steps: int,
) -> CompileChoice:
    """Decide for a run of `n_steps` steps, each like `batches`. Leaves weights, gradients and random
    state as they were.
    """
    if setting != "auto":
        return CompileChoice(setting == "on", f"compile: {setting}")
    if not can_compile(device_of(batches[0])):
        return CompileChoice(False, "no C++ compiler on this machine")
    eager = time_step(model, objective, batches)
    speedup, cost = expected_gain(model, batches)
    saved = n_steps * eager * (1 - 1 / speedup)
    figures = f"{n_steps} steps of {eager * 1e3:.0f} ms; compiling saves {saved:.0f} s and costs {cost:.0f} s"
    return CompileChoice(saved > 1.2 * cost, figures, eager)


def can_compile(device: torch.device) -> bool:
    """Whether PyTorch's compiler finds what it needs: on a CPU, a C++ compiler."""
    return device.type != "cpu" or shutil.which(os.environ.get("CXX", "g++")) is not None


def expected_gain(model: TransformerModel, batches: Sequence[TrainingBatch]) -> tuple[float, float]:
    """How many times faster compiled steps are, and the seconds that compiling costs: as measured on this machine
    for such a model and batches, or a guess.
    """
    known = _known(model, batches)
    guess = GUESSED_COLD_SECONDS * (2 if isinstance(model, SequenceToSequence) else 1)  # two kinds of blocks
    guess *= 2 if lengths_vary(batches) else 1
    return known.get("speedup", GUESSED_SPEEDUP), known.get("seconds", guess)


def time_step(
    model: TransformerModel, objective: Objective, batches: Sequence[TrainingBatch], repeats: int = 2
) -> float:
    """Seconds of one eager forward and backward pass (the fastest of some), without a trace in the state."""
    random = torch.get_rng_state()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for batch in batches:
            if batch.n_counted:
                objective(model, batch).backward()
        if device_of(batches[0]).type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    for parameter in model.parameters():
        parameter.grad = None
    torch.set_rng_state(random)
    return min(seconds)


def lengths_vary(batches: Sequence[TrainingBatch]) -> bool:
    """Whether other batches have other lengths: windows of text do not, examples and pairs are padded batch by
    batch.
    """
    return not isinstance(batches[0], MicroBatch)


def _shape(batch: TrainingBatch) -> list[int]:
    """Of the first ids; masks may come and go."""
    return list(next(iter(tensors(batch).values())).shape)


def _key(model: TransformerModel, batches: Sequence[TrainingBatch]) -> str:
    """Names the combination that compiled code is good for."""
    first, about = batches[0], {"model": type(model).__name__, "torch": torch.__version__}
    where = (
        {"rows": _shape(first)[0]} if lengths_vary(batches) else {"shape": _shape(first), "n": first.n_tokens}
    )
    return config_digest(model.config.model_dump() | about | where)[:16]


def _known(model: TransformerModel, batches: Sequence[TrainingBatch]) -> dict[str, float]:
    """What was measured on this machine for this combination: `speedup`, and the `seconds` that compiling takes with
    the cache as it is now.
    """
    path = cache_folder() / "compile.json"
    with contextlib.suppress(ValueError, OSError):
        return read_json(path).get(_key(model, batches), {})
    return {}


def remember(
    model: TransformerModel, batches: Sequence[TrainingBatch], choice: CompileChoice, seconds: Sequence[float]
) -> None:
    """Store what compiling brought: `seconds` of a run's first steps, the first of which paid for compiling.

    The next run finds the compiled code in the cache; loading it takes about a fifth of compiling it.
    """
    typical = sorted(seconds[1:])[len(seconds) // 2 - 1]
    warm = "seconds" in _known(model, batches)
    figures = {
        "speedup": choice.eager_seconds / typical,
        "seconds": (seconds[0] - typical) * (1.0 if warm else 0.2),
    }
    path = cache_folder() / "compile.json"
    with contextlib.suppress(
        ValueError, OSError
    ):  # a cache that cannot be written costs time, not correctness
        path.parent.mkdir(parents=True, exist_ok=True)
        table = read_json(path) if path.exists() else {}
        write_json_atomic(path, table | {_key(model, batches): figures})
