"""The planner's predictions against what runs take on this machine, model by model and method by method, and against what
was published of large models.

Every pair is one command in a process of its own: the most memory that it held, and the mean of its steps after the first, in
processor seconds, which other work on the machine hardly changes (one thread). The machine is calibrated before the first
pair. A run that the plan lets fit into the memory that it really took, less a tenth, is a false promise, and counted.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from benchmarks.harness import DATA, kept_or_measured, run_process, work_folder
from benchmarks.quality.planner.pairs import (
    BENCH_TOKENS,
    PROMPT_TOKENS,
    REAL,
    SIZES,
    Pair,
    all_pairs,
    prepare,
)
from benchmarks.quality.planner.published import reproduced
from benchmarks.registry import NO_TARGET, Figures, benchmark

SIDE = "benchmarks.quality.planner.command_side"
MEMORY_ERROR, TIME_ERROR = 0.1, 0.2
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@benchmark("planner", {
    "n_pairs": (">= 20", "pairs of a model and a method"),
    "memory.largest_error": ("<= 0.1", "peak memory: largest relative error"),
    "memory.median_error": (NO_TARGET, "peak memory: median relative error"),
    "memory.n_false_promises": ("== 0", "runs that the plan lets fit and that took more"),
    "time.largest_error": ("<= 0.2", "time of a step: largest relative error"),
    "time.median_error": (NO_TARGET, "time of a step: median relative error"),
    "parameters.largest_difference": ("== 0", "parameters: largest difference from the built model"),
    "published.largest_excess": ("<= 0", "published sizes, operations and tokens: largest error beyond the allowed one"),
    "pairs.*.memory_ratio": (NO_TARGET, "{0}: predicted over measured peak memory"),
    "pairs.*.time_ratio": (NO_TARGET, "{0}: predicted over measured time of a step"),
})  # fmt: skip
def planner(
    *, data: Path = DATA, work: Path | None = None, only: str = "", sizes: str = ",".join((*SIZES, REAL))
) -> Figures:
    """`work` keeps what was measured, so that an interrupted run resumes; `only`: pairs whose name contains it; `sizes`: of
    the models, ascending.
    """
    with work_folder(work) as folder:
        prepare(folder, data)
        figures: Figures = {"pairs": {}}
        for pair in all_pairs(folder, sizes.split(",")):
            if only not in pair.name:
                continue
            kept = folder / "rows" / f"{pair.name.replace(' ', '-')}.json"
            measured = kept_or_measured(kept, lambda: _measure(pair))  # noqa: B023
            found = compare(pair, measured)
            figures["pairs"][pair.name.replace(" ", "_")] = found
            print(_line(pair.name, found), file=sys.stderr, flush=True)
        return figures | _summary(figures["pairs"]) | {"published": _published()}


def _measure(pair: Pair) -> Figures:
    done = run_process([sys.executable, "-m", SIDE, *map(str, pair.words)], environment=ENVIRONMENT)
    if done.figures.get("status") != 0:
        raise RuntimeError(f"{pair.name}: ended with status {done.figures.get('status')}")
    return done.figures | {"process_seconds": done.processor_seconds}


def compare(pair: Pair, measured: Figures) -> Figures:
    """Prediction and measurement of one pair."""
    from parakit.planning.run_memory import run_bytes
    from parakit.planning.step_time import step_seconds
    from parakit.stages.planning.measuring import this_machine

    machine = this_machine()
    if pair.method == "inference":
        speed = measured["printed"]["speeds"][0]
        taken = 1 / speed["decode_tokens_per_second"]
        usual, largest = pair.spec(PROMPT_TOKENS + BENCH_TOKENS // 2, 1.0, PROMPT_TOKENS + BENCH_TOKENS)
    else:
        taken = statistics.fmean(measured["processor_seconds"][1:])
        steps = [
            [sum(part) for part in zip(*micro_batches, strict=True)]
            for micro_batches in measured["shapes"][1:]
        ]
        usual, largest = pair.spec(
            statistics.fmean(n for n, _ in steps),
            statistics.fmean(n for _, n in steps),
            max(n for micro_batches in measured["shapes"] for n, _ in micro_batches),
        )
    seconds, memory = step_seconds(usual, machine), run_bytes(largest, machine)
    built = measured["printed"].get("trained_parameters")
    return {
        "parameters": usual.n_parameters,
        "difference": abs(usual.n_trained - built)
        if built and pair.method in ("pretrain", "full", "dpo")
        else 0,
        "predicted_bytes": memory.peak,
        "measured_bytes": measured["peak_bytes"],
        "memory_ratio": round(memory.peak / measured["peak_bytes"], 3),
        "predicted_seconds": seconds.total,
        "measured_seconds": taken,
        "time_ratio": round(seconds.total / taken, 3),
        "memory": memory.parts(),
        "seconds": {name: value for name, value in vars(seconds).items() if value},
    }


def _summary(pairs: Figures) -> Figures:
    memory = [abs(pair["memory_ratio"] - 1) for pair in pairs.values()]
    time = [abs(pair["time_ratio"] - 1) for pair in pairs.values()]
    promises = sum(pair["memory_ratio"] < 1 - MEMORY_ERROR for pair in pairs.values())
    return {
        "n_pairs": len(pairs),
        "memory": {
            "largest_error": max(memory),
            "median_error": statistics.median(memory),
            "n_false_promises": promises,
        }
        | {"n_within": sum(error <= MEMORY_ERROR for error in memory)},
        "time": {"largest_error": max(time), "median_error": statistics.median(time)}
        | {"n_within": sum(error <= TIME_ERROR for error in time)},
        "parameters": {"largest_difference": max(pair["difference"] for pair in pairs.values())},
    }


def _published() -> Figures:
    rows = reproduced()
    return {
        "largest_excess": max(row.error - row.limit for row in rows),
        "rows": [{**vars(row), "error": row.error} for row in rows],
    }


def _line(name: str, found: Figures) -> str:
    return (
        f"{name:<16} memory {found['predicted_bytes'] / 1e6:7.0f} predicted {found['measured_bytes'] / 1e6:7.0f} MB measured"
        f" ({found['memory_ratio']:.2f}), step {found['predicted_seconds']:8.4f} predicted"
        f" {found['measured_seconds']:8.4f} s measured ({found['time_ratio']:.2f})"
    )
