"""Fine-tuning, DPO, reward modelling and GRPO against trl at equal model, data and steps on a CPU: the same losses, and
how fast.

Each side runs in a process of its own, the sides take turns. Both see the same rows in every step, so losses can be
compared step by step: a speed is worth something only for the same work. Speed is told in processor time (one thread),
which other work on the machine hardly touches, and on the wall. GRPO's completions are each side's own, so
its losses are compared over completions that are given to both, and of its runs the rewards at the end, seed by seed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import SHOWN, Figures, paired, report, run_process, summary
from benchmarks.peers.peers import python_of

OURS, THEIRS = "benchmarks.peers.tuning_side", "benchmarks.peers.trl_side"
TASKS = ("sft", "dpo", "reward", "grpo")
SPEEDS = ("rows_per_processor_second", "rows_per_second")
AT_END = 6  # steps of GRPO whose rewards are what a run came to


def main(words: list[str] | None = None) -> None:
    """Run the tasks, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", help="a Python that has trl; default: one is made under .peers/")
    arguments = parser.parse_args(words)
    peer = arguments.peer or python_of("trl")
    figures: Figures = {}
    bars: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        run_process([sys.executable, "-m", OURS, "make", folder])
        sides = _Sides(Path(folder), peer)
        for task in arguments.tasks:
            figures[task] = sides.compare(task, arguments.repeats)
            bars[f"{task}.ratio.rows_per_processor_second"] = ">= 1.0"
            bars |= {f"{task}.ratio.{name}": SHOWN for name in ("rows_per_second", "peak_memory_mib")}
            bars[f"{task}.largest_difference"] = "<= 1e-4"
    if "grpo" in figures:
        bars["grpo.reward_difference"] = ">= -0.05"
    report("against_trl", figures, bars)


class _Sides:
    """Both programs, on the folder that both learn from."""

    def __init__(self, folder: Path, peer: str | Path) -> None:
        self.folder = folder
        self.pythons: dict[str, str | Path] = {OURS: sys.executable, THEIRS: peer}

    def compare(self, task: str, repeats: int) -> Figures:
        """One task: both sides' speed, their ratio, and by how much their losses differ at most."""
        said: dict[str, list[Figures]] = {OURS: [], THEIRS: []}

        def side(module: str) -> Callable[[], Mapping[str, float]]:
            def run() -> Mapping[str, float]:
                found, peak_memory_mib = self._run(module, task, len(said[module]))
                said[module].append(found)
                return {"peak_memory_mib": peak_memory_mib} | {name: found[name] for name in SPEEDS}

            return run

        result: Figures = paired(side(OURS), side(THEIRS), repeats)
        if task != "grpo":
            return result | _losses(said[OURS][-1], said[THEIRS][-1])
        given = [self._run(module, "given", 0)[0] for module in (OURS, THEIRS)]
        return result | _rewards(said[OURS], said[THEIRS]) | _losses(*given)

    def _run(self, module: str, task: str, seed: int) -> tuple[Figures, float]:
        done = run_process([self.pythons[module], "-m", module, task, self.folder, str(seed)])
        return done.figures, done.peak_memory_mib


def _losses(ours: Figures, theirs: Figures) -> Figures:
    differences = [abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True)]
    return {
        "losses": ours["losses"],
        "losses_of_trl": theirs["losses"],
        "largest_difference": max(differences),
    }


def _rewards(ours: list[Figures], theirs: list[Figures]) -> Figures:
    """Mean rewards of the first step and of the last ones; the difference is ours less theirs, seed by seed."""

    def at_end(run: Figures) -> float:
        return statistics.fmean(run["rewards"][-AT_END:])

    result: Figures = {
        "reward_difference": summary([at_end(a) - at_end(b) for a, b in zip(ours, theirs, strict=True)])
    }
    for name, runs in (("", ours), ("_of_trl", theirs)):
        result[f"reward_at_first{name}"] = summary([run["rewards"][0] for run in runs])
        result[f"reward_at_end{name}"] = summary([at_end(run) for run in runs])
        result[f"length{name}"] = summary([statistics.fmean(run["lengths"]) for run in runs])
        result[f"rewards{name}"] = [run["rewards"] for run in runs]
    return result
