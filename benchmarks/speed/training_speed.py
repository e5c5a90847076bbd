"""Training from scratch against transformers' Trainer and litgpt: tokens a second and memory at 1M, 10M and 100M parameters.

Each side is a process of its own, the sides take turns: one architecture (Qwen3's), the same rows, AdamW in float32, gradient
clipping, each side's own loop as its documentation shows it; litgpt compiles. The share of the processor's matrix-product
rate is the model's operations over the time of a step, relative to a product of two matrices of 1,024.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved, run_process, summary, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.peers.peers import python_of
from benchmarks.speed.peers.training_workload import SIZES

SIDES = {"parakit": None, "transformers": "transformers", "litgpt": "litgpt"}
MODULE = "benchmarks.speed.peers.training_{}_side"


@benchmark("training_speed", {
    "ratio.*.fastest": (">= 1.3", "{0} parameters: tokens a processor second over the faster peer's"),
    "share.10m": (">= 0.6", "10m parameters: share of the processor's matrix-product rate"),
    "share.100m": (">= 0.7", "100m parameters: share of the processor's matrix-product rate"),
    "share.1m": (NO_TARGET, "1m parameters: share of the processor's matrix-product rate"),
    "ratio.*.memory": ("<= 1", "{0} parameters: peak memory of the process over the smaller peer's"),
    "ratio.*.transformers": (NO_TARGET, "{0} parameters: tokens a processor second over transformers'"),
    "ratio.*.litgpt": (NO_TARGET, "{0} parameters: tokens a processor second over litgpt's"),
    "loss_difference.*": ("<= 1e-4", "{0} parameters: difference from the last loss of transformers, relative"),
})  # fmt: skip
def training_speed(
    *,
    sizes: tuple[str, ...] = ("1m", "10m", "100m"),
    peers: tuple[str, ...] = ("transformers", "litgpt"),
    repeats: int = 3,
    threads: int = 1,
    compile: str = "off",
    work: Path | None = None,
) -> Figures:
    """`compile` is Parakit's setting: off, on or auto. Processor seconds, which other work on the machine changes less."""
    figures: Figures = {
        "threads": threads,
        "compile": compile,
        "ratio": {},
        "share": {},
        "loss_difference": {},
    }
    with work_folder(work) as folder:
        for size in sizes:
            measured = _measure(size, folder, peers, repeats, threads, compile)
            figures[size] = measured["sides"]
            figures["ratio"][size] = _ratios(measured["rounds"], peers)
            figures["share"][size] = _share(size, measured["rounds"]["parakit"])
            if "transformers" in peers:
                own, other = (measured["rounds"][name][-1]["loss"] for name in ("parakit", "transformers"))
                figures["loss_difference"][size] = abs(own - other) / other
    return figures


def _measure(
    size: str, folder: Path, peers: tuple[str, ...], repeats: int, threads: int, compile: str
) -> dict[str, Any]:
    """Every side in turn: their summaries, and what each round gave."""
    model = folder / size
    if not (model / "config.json").exists():
        run_process([python_of("transformers"), "-m", MODULE.format("transformers"), "make", size, model])
    rounds: dict[str, list[Mapping[str, float]]] = {}

    def side(name: str) -> Callable[[], Mapping[str, float]]:
        peer = SIDES[name]
        python = Path(sys.executable) if peer is None else python_of(peer)
        environment = {"OMP_NUM_THREADS": str(threads), "COMPILE": compile}

        def run() -> Mapping[str, float]:
            command: list[str | Path] = [python, "-m", MODULE.format(name), size, model, str(threads)]
            done = run_process(command, environment=environment)
            found = done.figures | {
                "peak_memory_mib": done.peak_memory_mib,
                "gflops": matrix_rate(threads) / 1e9,
            }
            print(f"training_speed: {size} {name}: {found}", file=sys.stderr, flush=True)
            rounds.setdefault(name, []).append(found)
            return found

        return run

    sides = interleaved({name: side(name) for name in ("parakit", *peers)}, repeats)
    return {"sides": sides, "rounds": rounds}


def matrix_rate(threads: int) -> float:
    """Operations of products of two matrices of 1,024 in a processor second of one thread, times the threads."""
    import time

    import torch

    before, best = torch.get_num_threads(), math.inf
    torch.set_num_threads(1)
    a = torch.randn(1024, 1024)
    for _ in range(20):
        started = time.process_time()
        a @ a
        best = min(best, time.process_time() - started)
    torch.set_num_threads(before)
    return threads * 2 * 1024**3 / best


def _ratios(rounds: Mapping[str, list[Mapping[str, float]]], peers: tuple[str, ...]) -> Figures:
    """Parakit's figures over the peers', round by round."""
    speed, memory = "tokens_per_processor_second", "peak_memory_mib"
    own, found = rounds["parakit"], {}
    for name in peers:
        found[name] = summary([a[speed] / b[speed] for a, b in zip(own, rounds[name], strict=True)])
    each = [[rounds[name][i] for name in peers] for i in range(len(own))]
    found["fastest"] = summary(
        [a[speed] / max(b[speed] for b in of) for a, of in zip(own, each, strict=True)]
    )
    found["memory"] = summary(
        [a[memory] / min(b[memory] for b in of) for a, of in zip(own, each, strict=True)]
    )
    return found


def _share(size: str, own: list[Mapping[str, float]]) -> Figures:
    flops = SIZES[size].flops_per_token
    return summary([run["tokens_per_processor_second"] * flops / (run["gflops"] * 1e9) for run in own])
