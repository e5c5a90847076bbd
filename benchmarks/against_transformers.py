"""Training and decoding throughput, peak memory and start-up against transformers at equal sizes.

Both sides load the same randomly initialised Qwen3 folder, which transformers wrote, in fp32 and without
compilation; each task runs in a process of its own, the sides take turns. `start` is a whole process:
import, load, one token. Greedy tokens and training losses of the two sides are compared too: a speed is
worth something only for the same work.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import paired, report, run_process
from benchmarks.peers import workload
from benchmarks.peers.peers import python_of

OURS, THEIRS = "benchmarks.peers.parakit_side", "benchmarks.peers.transformers_side"


def main(words: list[str] | None = None) -> None:
    """Run every task at every size, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=workload.SIZES, default=list(workload.SIZES))
    parser.add_argument("--tasks", nargs="+", choices=workload.TASKS[1:], default=list(workload.TASKS[1:]))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(words)
    peer = python_of("transformers")
    figures: dict[str, Any] = {"ratio": {}}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            made = run_process([peer, "-m", THEIRS, "make", folder, size])
            figures[size] = {"n_params": made.figures["n_params"]}
            for task in arguments.tasks:
                figures[size][task] = compare(task, Path(folder), size, peer, arguments.repeats)
                speed = "seconds" if task == "start" else "tokens_per_second"
                figures["ratio"][f"{task} {size} {speed}"] = figures[size][task]["ratio"][speed]
    report("against_transformers", figures)


def compare(task: str, folder: Path, size: str, peer: Path, repeats: int) -> dict[str, Any]:
    """One task at one size: both sides' figures, their ratio, and whether the work was the same."""
    said: dict[str, Any] = {}

    def side(module: str, python: str | Path) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            done = run_process([python, "-m", module, task, folder, size])
            said[module] = done.figures
            measured = {"peak_memory_mib": done.peak_memory_mib}
            if task == "start":
                return measured | {"seconds": done.seconds}
            return measured | {"tokens_per_second": done.figures["tokens_per_second"]}

        return run

    result: dict[str, Any] = paired(side(OURS, sys.executable), side(THEIRS, peer), repeats)
    return result | {"same_result": _same(said[OURS], said[THEIRS])}


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    if "loss" in ours:
        return math.isclose(ours["loss"], theirs["loss"], rel_tol=1e-3)
    return bool(ours["token_ids"] == theirs["token_ids"])


if __name__ == "__main__":
    main()
