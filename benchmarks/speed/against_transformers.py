"""Training and decoding throughput, peak memory and start-up against transformers at equal sizes.

Both sides load the same randomly initialised Qwen3 folder, which transformers wrote, in fp32 and without
compilation; each task runs in a process of its own, the sides take turns. `start` is a whole process:
import, load, one token. Greedy tokens and training losses of the two sides are compared too: a speed is
worth something only for the same work.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import paired, run_process
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.peers import workload
from benchmarks.speed.peers.peers import python_of

PARAKIT, PEER = "benchmarks.speed.peers.parakit_side", "benchmarks.speed.peers.transformers_side"


@benchmark("against_transformers", {
    "ratio.train * tokens_per_second": (NO_TARGET, "training, {0} parameters: tokens per second over transformers'"),
    "ratio.generate-* tokens_per_second": (
        NO_TARGET, "decoding (number of sequences and parameters: {0}): tokens per second over transformers'"
    ),
    "ratio.start * seconds": (NO_TARGET, "start-up, load and one token, {0} parameters: seconds over transformers'"),
})  # fmt: skip
def against_transformers(
    *,
    sizes: tuple[str, ...] = tuple(workload.SIZES),
    tasks: tuple[str, ...] = workload.TASKS[1:],
    repeats: int = 3,
) -> Figures:
    """Every task at every size."""
    peer = python_of("transformers")
    figures: Figures = {"ratio": {}}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            made = run_process([peer, "-m", PEER, "make", folder, size])
            figures[size] = {"n_params": made.figures["n_params"]}
            for task in tasks:
                figures[size][task] = compare(task, Path(folder), size, peer, repeats)
                speed = "seconds" if task == "start" else "tokens_per_second"
                figures["ratio"][f"{task} {size} {speed}"] = figures[size][task]["ratio"][speed]
    return figures


def compare(task: str, folder: Path, size: str, peer: Path, repeats: int) -> dict[str, Any]:
    """One task at one size: both sides' figures, their ratio, and whether the work was the same."""
    outputs: dict[str, Any] = {}

    def side(module: str, python: str | Path) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            done = run_process([python, "-m", module, task, folder, size])
            outputs[module] = done.figures
            measured = {"peak_memory_mib": done.peak_memory_mib}
            if task == "start":
                return measured | {"seconds": done.seconds}
            return measured | {"tokens_per_second": done.figures["tokens_per_second"]}

        return run

    result: dict[str, Any] = paired(side(PARAKIT, sys.executable), side(PEER, peer), repeats)
    return result | {"same_result": _same(outputs[PARAKIT], outputs[PEER])}


def _same(parakit: Mapping[str, Any], peer: Mapping[str, Any]) -> bool:
    if "loss" in parakit:
        return math.isclose(parakit["loss"], peer["loss"], rel_tol=1e-3)
    return bool(parakit["token_ids"] == peer["token_ids"])
