"""How benchmarks measure: runs in processes of their own, two sides interleaved, medians with spread, one JSON result.

A result, the last line of the output and results/NAME.json, has name, figures, target, met, hardware, versions,
commit and date.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.registry import Figures, Targets, all_met, rows
from parakit.common.files import read_json, write_json_atomic
from parakit.common.hardware import describe_hardware, versions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = Path(
    os.environ.get("PARAKIT_DATA") or ROOT.parent / "shared" / "data"
)  # public data, where it is there


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
    parakit: Callable[[], Mapping[str, float]], peer: Callable[[], Mapping[str, float]], repeats: int = 3
) -> dict[str, Figures]:
    """Two sides interleaved, and `ratio`: Parakit's figures divided by the peer's, round by round."""
    kept: dict[str, list[Mapping[str, float]]] = {"parakit": [], "peer": []}

    def keeping(name: str, side: Callable[[], Mapping[str, float]]) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            kept[name].append(side())
            return kept[name][-1]

        return run

    result = interleaved({"parakit": keeping("parakit", parakit), "peer": keeping("peer", peer)}, repeats)
    shared = [f for f in kept["parakit"][0] if f in kept["peer"][0] and all(run[f] for run in kept["peer"])]
    rounds = list(zip(kept["parakit"], kept["peer"], strict=True))
    result["ratio"] = {figure: summary([a[figure] / b[figure] for a, b in rounds]) for figure in shared}
    return result


def run_process(
    command: Sequence[str | Path], *, timeout: float = 3600, environment: Mapping[str, str] | None = None
) -> ProcessRun:
    """Run a program to its end, its stderr passed on; raises RuntimeError with its output when it fails.

    The last line of its stdout is read as a JSON object where it is one.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "usage.json"
        launcher = [sys.executable, "-S", "-c", _LAUNCHER, str(record), *words]
        with subprocess.Popen(
            launcher, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            killer = _kill_after(process, timeout)
            out = process.stdout.read().decode(errors="replace")
            process.wait()
            killer.cancel()
        status, seconds, processor, peak = json.loads(record.read_text())
    if status:
        raise RuntimeError(f"{' '.join(words)} ended with status {status}:\n{out[-2000:]}")
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB on Linux
    return ProcessRun(_last_json(out), seconds, peak / per_mib, processor)


# Linux counts the memory of the process that starts a program into the program's peak, so a small one starts it.
_LAUNCHER = """
import json, os, signal, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: process.kill())
signal.signal(signal.SIGINT, signal.SIG_IGN)
_, status, usage = os.wait4(process.pid, 0)
figures = [os.waitstatus_to_exitcode(status), time.perf_counter() - started]
with open(sys.argv[1], "w") as file:
    json.dump([*figures, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
"""


def run_parakit(
    *words: str | Path, timeout: float = 3600, environment: Mapping[str, str] | None = None
) -> ProcessRun:
    """`parakit` with these words, as `run_process` runs a program."""
    command = [sys.executable, "-m", "parakit.cli.main", *words]
    return run_process(command, timeout=timeout, environment=environment)


def pretraining_figures(build: ProcessRun) -> Figures:
    """What a `parakit build --json` says of its pre-training, and the seconds of the whole build."""
    stage = build.figures["stages"]["pretrain"]
    kept = ("parameters", "tokens", "bits_per_byte", "training_seconds", "tokens_per_second")
    seconds = {"seconds": build.seconds, "processor_seconds": build.processor_seconds}
    return {key: stage[key] for key in kept} | seconds


def _kill_after(process: subprocess.Popen[bytes], timeout: float) -> threading.Timer:
    killer = threading.Timer(timeout, process.terminate)
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


def report(name: str, figures: Figures, targets: Targets, results: Path = RESULTS) -> Figures:
    """Write results/NAME.json and print the same object as one line; returns it."""
    judged = rows(figures, targets)
    result = {
        "name": name,
        "figures": figures,
        "target": {row.path: row.limit for row in judged},
        "met": all_met(judged),
        "hardware": describe_hardware(),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    for row in judged:
        if row.value is None or row.met is False:
            what = "not measured" if row.value is None else f"missed: {row.value}, target {row.limit}"
            print(f"{name}: {row.words}: {what}", file=sys.stderr)
    results.mkdir(parents=True, exist_ok=True)
    write_json_atomic(results / f"{name}.json", result)
    print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)
    return result


def kept_or_measured(path: Path | None, measure: Callable[[], Figures]) -> Figures:
    """What `path` holds, or else what `measure` returns, written there: an interrupted benchmark resumes. None: no file."""
    if path is not None and path.exists():
        found: Figures = read_json(path)
        return found
    found = measure()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, found)
    return found


@contextlib.contextmanager
def work_folder(folder: Path | None) -> Iterator[Path]:
    """`folder`, made where it is missing, or a temporary one."""
    with tempfile.TemporaryDirectory(prefix="parakit-benchmark-") as temporary:
        place = (folder or Path(temporary)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        yield place
