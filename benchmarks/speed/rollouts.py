"""Steps of GRPO and PPO with the engine, against steps as they were before it: PyTorch's decoding of whole batches, and passes
of PyTorch that score them.

The real 135M model, 16 completions of up to 96 tokens a step: rollouts, both log-probabilities, rewards and the optimizer's
step. Each side is a process of its own, and the sides take turns. Both draw with the same seeds, so their completions have
about the same lengths.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import interleaved, run_process, summary, work_folder
from benchmarks.quality.real_models.data import imported
from benchmarks.registry import NO_TARGET, Figures, benchmark

SIDE = "benchmarks.speed.peers.rollout_side"
SIDES = ("engine", "before")
METHODS = ("grpo", "ppo")


@benchmark("rollouts", {
    "*.step_over_before": (">= 1.5", "{0}: speed of a step over that before the engine"),
    "*.completions_over_before": (NO_TARGET, "{0}: speed of a step's completions over that before the engine"),
    "*.engine.step": (NO_TARGET, "{0}: seconds of a step"),
})  # fmt: skip
def rollouts(
    *,
    methods: tuple[str, ...] = METHODS,
    repeats: int = 3,
    threads: int | None = None,
    work: Path | None = None,
) -> Figures:
    """`work`: where the imported model is kept."""
    threads = threads or len(os.sched_getaffinity(0))
    with work_folder(work) as folder:
        model = imported("smollm2", folder / "135m-model")
        return {method: _compare(method, model, repeats, threads) for method in methods}


def _compare(method: str, model: Path, repeats: int, threads: int) -> Figures:
    runs: dict[str, list[Figures]] = {name: [] for name in SIDES}

    def side(name: str) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            command: list[str | Path] = [sys.executable, "-m", SIDE, name, method, model, str(threads)]
            found = run_process(command, environment={"OMP_NUM_THREADS": str(threads)}).figures
            runs[name].append(found)
            return {key: value for key, value in found.items() if isinstance(value, int | float)}

        return run

    result: Figures = interleaved({name: side(name) for name in SIDES}, repeats)
    for figure in ("step", "completions"):
        pairs = zip(runs["before"], runs["engine"], strict=True)
        result[f"{figure}_over_before"] = summary([old[figure] / new[figure] for old, new in pairs])
    result["equal_first_completions"] = runs["before"][0]["digest"] == runs["engine"][0]["digest"]
    return result
