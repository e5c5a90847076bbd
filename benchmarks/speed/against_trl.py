"""Fine-tuning, DPO, reward modelling and GRPO against trl at equal model, data and steps on a CPU: the same losses, and
how fast.

Each side runs in a process of its own, the sides take turns. Both see the same rows in every step, so losses can be
compared step by step: a speed is worth something only for the same work. Speed is measured in processor time (one thread),
which other work on the machine hardly touches, and on the wall. GRPO's completions are each side's own, so
its losses are compared over completions that are given to both, and of its runs the rewards at the end, seed by seed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from benchmarks.harness import paired, run_process, summary
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.peers.peers import python_of

PARAKIT, PEER = "benchmarks.speed.peers.tuning_side", "benchmarks.speed.peers.trl_side"
Task = Literal["sft", "dpo", "reward", "grpo"]
TASKS: tuple[Task, ...] = ("sft", "dpo", "reward", "grpo")
SPEEDS = ("rows_per_processor_second", "rows_per_second")
AT_END = 6  # steps of GRPO whose rewards are what a run came to


@benchmark("against_trl", {
    "*.ratio.rows_per_processor_second": (">= 1.0", "{0}: rows per processor second over trl's"),
    "*.ratio.rows_per_second": (NO_TARGET, "{0}: rows per second over trl's"),
    "*.ratio.peak_memory_mib": (NO_TARGET, "{0}: peak memory over trl's"),
    "*.largest_difference": ("<= 1e-4", "{0}: largest difference of the losses, step by step"),
    "grpo.reward_difference": (">= -0.05", "grpo: reward at the end less trl's"),
})  # fmt: skip
def against_trl(*, tasks: tuple[Task, ...] = TASKS, repeats: int = 3, peer: Path | None = None) -> Figures:
    """`peer` is a Python that has trl; without one, an environment is made under .peers/."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        run_process([sys.executable, "-m", PARAKIT, "make", folder])
        sides = Sides(Path(folder), peer or python_of("trl"))
        for task in tasks:
            figures[task] = sides.compare(task, repeats)
    return figures


class Sides:
    """Both programs, on the folder that both learn from."""

    def __init__(self, folder: Path, peer: str | Path) -> None:
        self.folder = folder
        self.pythons: dict[str, str | Path] = {PARAKIT: sys.executable, PEER: peer}

    def compare(self, task: str, repeats: int) -> Figures:
        """One task: both sides' speed, their ratio, and by how much their losses differ at most."""
        outputs: dict[str, list[Figures]] = {PARAKIT: [], PEER: []}

        def side(module: str) -> Callable[[], Mapping[str, float]]:
            def run() -> Mapping[str, float]:
                found, peak_memory_mib = self._run(module, task, len(outputs[module]))
                outputs[module].append(found)
                return {"peak_memory_mib": peak_memory_mib} | {name: found[name] for name in SPEEDS}

            return run

        result: Figures = paired(side(PARAKIT), side(PEER), repeats)
        if task != "grpo":
            return result | _losses(outputs[PARAKIT][-1], outputs[PEER][-1])
        given = [self._run(module, "given", 0)[0] for module in (PARAKIT, PEER)]
        return result | _rewards(outputs[PARAKIT], outputs[PEER]) | _losses(*given)

    def _run(self, module: str, task: str, seed: int) -> tuple[Figures, float]:
        done = run_process([self.pythons[module], "-m", module, task, self.folder, str(seed)])
        return done.figures, done.peak_memory_mib


def _losses(parakit: Figures, peer: Figures) -> Figures:
    differences = [abs(a - b) for a, b in zip(parakit["losses"], peer["losses"], strict=True)]
    return {
        "losses": parakit["losses"],
        "losses_of_trl": peer["losses"],
        "largest_difference": max(differences),
    }


def _rewards(parakit: list[Figures], peer: list[Figures]) -> Figures:
    """Mean rewards of the first step and of the last ones; the difference is parakit less peer, seed by seed."""

    def at_end(run: Figures) -> float:
        return statistics.fmean(run["rewards"][-AT_END:])

    result: Figures = {
        "reward_difference": summary([at_end(a) - at_end(b) for a, b in zip(parakit, peer, strict=True)])
    }
    for name, runs in (("", parakit), ("_of_trl", peer)):
        result[f"reward_at_first{name}"] = summary([run["rewards"][0] for run in runs])
        result[f"reward_at_end{name}"] = summary([at_end(run) for run in runs])
        result[f"length{name}"] = summary([statistics.fmean(run["lengths"]) for run in runs])
        result[f"rewards{name}"] = [run["rewards"] for run in runs]
    return result
