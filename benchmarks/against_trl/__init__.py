"""DPO and reward modelling against trl at equal model, data and steps on a CPU: the same losses, and how fast.

Each side runs in a process of its own, the sides take turns. Both see the same pairs in every step, so losses can be
compared step by step: a speed is worth something only for the same work.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import paired, report, run_process
from benchmarks.peers import preference_pairs as pairs
from benchmarks.peers.peers import python_of

OURS, THEIRS = "benchmarks.peers.preference_side", "benchmarks.peers.trl_side"


def main(words: list[str] | None = None) -> None:
    """Run both tasks, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=pairs.TASKS, default=list(pairs.TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", help="a Python that has trl; default: one is made under .peers/")
    arguments = parser.parse_args(words)
    peer = arguments.peer or python_of("trl")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        run_process([sys.executable, "-m", OURS, "make", folder])
        for task in arguments.tasks:
            figures[task] = compare(task, Path(folder), peer, arguments.repeats)
    bars = {f"{task}.ratio.pairs_per_second.median": ">= 1.0" for task in arguments.tasks}
    bars |= {f"{task}.largest_difference": "<= 1e-3" for task in arguments.tasks}
    report("against_trl", figures, bars)


def compare(task: str, folder: Path, peer: str | Path, repeats: int) -> dict[str, Any]:
    """One task: both sides' speed, their ratio, and by how much their losses differ at most."""
    said: dict[str, list[float]] = {}
    numbers = (pairs.N_PAIRS, pairs.N_STEPS, pairs.LEARNING_RATE, pairs.KL_COEF)
    commands: dict[str, list[str | Path]] = {
        OURS: [sys.executable, "-m", OURS, task, folder],
        THEIRS: [peer, "-m", THEIRS, task, folder, *map(str, numbers)],
    }

    def side(module: str) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            done = run_process(commands[module])
            said[module] = done.figures["losses"]
            return {
                "peak_memory_mib": done.peak_memory_mib,
                "pairs_per_second": done.figures["pairs_per_second"],
            }

        return run

    result: dict[str, Any] = paired(side(OURS), side(THEIRS), repeats)
    differences = [abs(a - b) for a, b in zip(said[OURS], said[THEIRS], strict=True)]
    return result | {
        "losses": said[OURS],
        "losses_of_trl": said[THEIRS],
        "largest_difference": max(differences),
    }
