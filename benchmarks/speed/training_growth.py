"""How time and memory of a training step grow: with parameters, tokens of a batch, and context, as fitted exponents.

One process, AdamW in float32, nothing compiled, processor seconds of the fastest of some steps. Memory is what the process
takes at most during the steps, above what it held before the model was made. Exponents are slopes of a line through the
logarithms; 1 means twice the cost for twice the size.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.hardware import peak_memory, reset_peak_memory

VOCAB_SIZE, HEAD_DIM = 1024, 32
WIDTHS, LAYERS = (64, 128, 256, 384, 512), 6
ROWS, CONTEXTS = (2, 4, 8, 16, 32), (128, 256, 512, 1024, 2048)


@benchmark("training_growth", {
    "exponents.parameters.seconds": (NO_TARGET, "exponent of a step's time against parameters"),
    "exponents.parameters.memory": (NO_TARGET, "exponent of a step's memory against parameters"),
    "exponents.tokens.seconds": (NO_TARGET, "exponent of a step's time against the tokens of a batch"),
    "exponents.tokens.memory": (NO_TARGET, "exponent of a step's memory against the tokens of a batch"),
    "exponents.context.seconds": (NO_TARGET, "exponent of a step's time against the context, at equal tokens"),
    "exponents.context.memory": (NO_TARGET, "exponent of a step's memory against the context, at equal tokens"),
})  # fmt: skip
def training_growth(
    *,
    widths: tuple[int, ...] = WIDTHS,
    rows: tuple[int, ...] = ROWS,
    contexts: tuple[int, ...] = CONTEXTS,
    steps: int = 3,
    threads: int = 1,
) -> Figures:
    """Three series, each with one thing that grows."""
    import torch

    torch.set_num_threads(threads)
    n_tokens = max(contexts)
    series = {
        "parameters": [measure(width, LAYERS, 4, 256, steps) for width in widths],
        "tokens": [measure(128, 4, n_rows, 256, steps) for n_rows in rows],
        "context": [measure(128, 4, n_tokens // length, length, steps) for length in contexts],
    }
    sizes = {
        "parameters": [point["parameters"] for point in series["parameters"]],
        "tokens": rows,
        "context": contexts,
    }
    exponents = {
        name: {
            figure: exponent(sizes[name], [point[figure] for point in points])
            for figure in ("seconds", "memory")
        }
        for name, points in series.items()
    }
    return {"exponents": exponents, "series": series, "threads": threads}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log cost against log size."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure(width: int, n_layers: int, n_rows: int, seq_len: int, steps: int) -> dict[str, float]:
    """Parameters, processor seconds of a step, and bytes at the peak."""
    import torch

    from benchmarks.speed.peers.parakit_side import adamw_plan
    from parakit.model import DecoderConfig, LanguageModel
    from parakit.training.loop import train_steps
    from parakit.training.micro_batches import MicroBatch
    from parakit.training.objectives import next_token
    from parakit.training.optimizers.optimizer import Optimizer

    give_back()
    before = peak_memory()
    n_heads = width // HEAD_DIM
    config = DecoderConfig(
        vocab_size=VOCAB_SIZE, d_model=width, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_heads,
        head_dim=HEAD_DIM, d_ff=width * 8 // 3 // 32 * 32, max_seq_len=seq_len,
    )  # fmt: skip
    model = LanguageModel(config)
    ids = torch.randint(0, VOCAB_SIZE, (n_rows, seq_len + 1))
    targets = ids[:, 1:].contiguous()
    batch = MicroBatch(ids[:, :-1], targets, None, None, None, targets.numel())
    seconds = []
    optimizer = Optimizer(model, adamw_plan(seq_len, n_rows, 1e-3))
    run: Any = train_steps(model, ([batch] for _ in range(steps + 1)), next_token, optimizer)
    for _ in range(steps + 1):
        started = time.process_time()
        next(run)
        seconds.append(time.process_time() - started)
    found = {"parameters": float(config.n_params()["total"]), "seconds": min(seconds[1:])}
    return found | {"memory": float(max(1, peak_memory() - before))}


def give_back() -> None:
    """Free memory goes back to the system, and the peak is counted from here."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    reset_peak_memory()
