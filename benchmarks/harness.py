"""What every benchmark shares: runs in processes of their own, two sides interleaved, medians with spread,
one JSON result.

A benchmark is a module of this folder with `main(arguments)`. It ends with `report(...)`, which prints
one JSON object as the last line and writes it to results/NAME.json: name, figures, bar, holds, hardware,
versions, commit, date. A bar names a figure and a limit ("<= 0.2"); whether it holds is worked out here
from the figures, never stated by the benchmark.
"""

from __future__ import annotations

import json
import operator
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parakit.common.files import write_json_atomic
from parakit.common.hardware import describe_hardware, versions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = Path(
    os.environ.get("PARAKIT_DATA") or ROOT.parent / "shared" / "data"
)  # public data, where it is there
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}

SHOWN = ""  # in place of a limit: no bar, but the figure belongs into the README's table

Figures = dict[str, Any]


@dataclass(frozen=True)
class ProcessRun:
    """One finished process: the JSON object of its last line, its wall time from start to exit, its peak
    memory, and the processor time it took, which other work on the machine hardly changes.
    """

    figures: Figures
    seconds: float
    peak_memory_mib: float
    processor_seconds: float


def summary(values: Sequence[float]) -> Figures:
    """Median, lowest, highest and number of some measurements."""
    if not values:
        raise ValueError("nothing was measured")
    rounded = [float(f"{value:.6g}") for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "low", "high"), rounded, strict=True), n=len(values))


def interleaved(
    sides: Mapping[str, Callable[[], Mapping[str, float]]], repeats: int = 3
) -> dict[str, Figures]:
    """Run every side once a round, `repeats` rounds, each round in the reverse order of the one before.

    So a machine that slows down or warms up does it to all sides alike. Each side returns named figures;
    the result holds their summaries by side and figure.
    """
    measured: dict[str, list[Mapping[str, float]]] = {name: [] for name in sides}
    for number in range(repeats):
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            measured[name].append(sides[name]())
    return {
        name: {figure: summary([run[figure] for run in runs]) for figure in runs[0]}
        for name, runs in measured.items()
    }


def paired(
    ours: Callable[[], Mapping[str, float]], theirs: Callable[[], Mapping[str, float]], repeats: int = 3
) -> dict[str, Figures]:
    """Two sides interleaved, and `ratio`: ours divided by theirs, figure by figure, round by round."""
    kept: dict[str, list[Mapping[str, float]]] = {"ours": [], "theirs": []}

    def keeping(name: str, side: Callable[[], Mapping[str, float]]) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            kept[name].append(side())
            return kept[name][-1]

        return run

    result = interleaved({"ours": keeping("ours", ours), "theirs": keeping("theirs", theirs)}, repeats)
    shared = [f for f in kept["ours"][0] if f in kept["theirs"][0] and all(run[f] for run in kept["theirs"])]
    rounds = list(zip(kept["ours"], kept["theirs"], strict=True))
    result["ratio"] = {figure: summary([a[figure] / b[figure] for a, b in rounds]) for figure in shared}
    return result


def run_process(
    command: Sequence[str | Path], *, timeout: float = 3600, environment: Mapping[str, str] | None = None
) -> ProcessRun:
    """Run a program to its end, its stderr passed on; raises RuntimeError with what it said when it fails.

    The last line of its stdout is read as a JSON object where it is one.
    """
    words = [str(word) for word in command]
    started = time.perf_counter()
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        killer = _kill_after(process, timeout)
        out = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        killer.cancel()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with status {process.returncode}:\n{out[-2000:]}")
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB on Linux
    processor = usage.ru_utime + usage.ru_stime
    return ProcessRun(_last_json(out), seconds, usage.ru_maxrss / per_mib, processor)


def run_parakit(
    *words: str | Path, timeout: float = 3600, environment: Mapping[str, str] | None = None
) -> ProcessRun:
    """`parakit` with these words, as `run_process` runs a program."""
    command = [sys.executable, "-m", "parakit.cli.main", *words]
    return run_process(command, timeout=timeout, environment=environment)


def _kill_after(process: subprocess.Popen[bytes], timeout: float) -> threading.Timer:
    killer = threading.Timer(timeout, process.kill)
    killer.daemon = True
    killer.start()
    return killer


def _last_json(out: str) -> Figures:
    lines = out.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def figure_at(figures: Mapping[str, Any], path: str) -> float:
    """The number at a dotted path; of a summary its median."""
    found: Any = figures
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise KeyError(f"the figures hold no {path!r}")
        found = found[part]
    return found["median"] if isinstance(found, Mapping) else found


def holds(figures: Mapping[str, Any], bar: Mapping[str, str]) -> bool | None:
    """Whether every figure is within its bar; None where there is no bar. A bar for a missing figure is an
    error.
    """
    verdicts = []
    for path, limit in bar.items():
        if limit == SHOWN:
            continue
        parsed = re.fullmatch(r"(<=|>=|<|>|==)\s*(-?[\d.]+(?:e-?\d+)?)", limit)
        if not parsed:
            raise ValueError(f"bar {limit!r} for {path}: write it as '<= 0.5'")
        verdicts.append(bool(_COMPARE[parsed[1]](figure_at(figures, path), float(parsed[2]))))
    return all(verdicts) if verdicts else None


def commit() -> str:
    """The commit that was measured, with `+changes` when the tree differs from it; "unknown" outside git."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "src", "benchmarks/*.py"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def report(
    name: str, figures: Figures, bar: Mapping[str, str] | None = None, results: Path = RESULTS
) -> Figures:
    """Write results/NAME.json and print the same object as one line; returns it."""
    result = {
        "name": name,
        "figures": figures,
        "bar": dict(bar or {}),
        "holds": holds(figures, bar or {}),
        "hardware": describe_hardware(),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    results.mkdir(parents=True, exist_ok=True)
    write_json_atomic(results / f"{name}.json", result)
    print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)
    return result
