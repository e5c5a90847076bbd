"""Run a sweep: each run in a process of its own, one after the other or several at once.

A run that fails, or is killed, stops no other; one that needs a stage that failed elsewhere is not begun. What is
finished is not begun again, and what was interrupted resumes, so that the same command goes on after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from parakit.common.files import disk_errors
from parakit.common.formatting import duration
from parakit.common.hardware import n_cores
from parakit.common.locks import hold_lock
from parakit.common.processes import is_distributed, local_world_size, single_process_environment
from parakit.common.progress import log
from parakit.recipe.sweeps.child import STOPPED, failure
from parakit.recipe.sweeps.plan import Sweep

LOGS = "logs"
POLL_SECONDS = 0.2
STOP_SECONDS = 120.0  # for a run that is stopped to write its checkpoint


@dataclass(frozen=True)
class RunOutcome:
    """What became of a run."""

    run: str
    status: Literal["done", "failed"]
    seconds: float = 0.0
    message: str = ""


class Process(Protocol):
    """A run that was begun: `subprocess.Popen`, as far as it is needed."""

    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit status."""

    def kill(self) -> None:
        """End it at once."""


StartRun = Callable[[Sweep, str, int, int], Process]
"""Begins a run of a sweep, in one of the places (0 and on) for so many at once."""


def run_sweep(sweep: Sweep, parallel: int = 1, start: StartRun | None = None) -> list[RunOutcome]:
    """Build every run of `sweep`, `parallel` at once; what became of each, in order. On Ctrl-C the runs stop with their
    checkpoints written, and `KeyboardInterrupt` goes on.
    """
    sweep.check_folder()
    with _sweep_folder(sweep):
        sweep.write()
        return _Runs(sweep, parallel, start or start_process).all()


def start_process(sweep: Sweep, run: str, place: int, parallel: int) -> subprocess.Popen[bytes]:
    """A run as a process; several at once write what they print to `sweep/logs/RUN.log`."""
    command = [sys.executable, "-m", "parakit.recipe.sweeps.child", str(sweep.folder), run]
    output: IO[bytes] | None = None
    with contextlib.ExitStack() as stack:
        if parallel > 1:
            (sweep.place / LOGS).mkdir(exist_ok=True)
            output = stack.enter_context(open(sweep.place / LOGS / f"{run}.log", "wb"))
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output or 2,  # standard output is the sweep's
            stderr=output,
            env=environment(
                single_process_environment(), place, parallel, n_accelerators() if parallel > 1 else 0
            ),
            start_new_session=True,  # Ctrl-C comes to the sweep, which stops its runs
        )


def environment(given: Mapping[str, str], place: int, parallel: int, n_accelerators: int) -> dict[str, str]:
    """Of a run among several at once: its share of the cores, and one accelerator, where nothing else was chosen."""
    chosen = dict(given)
    if parallel > 1:
        chosen.setdefault("OMP_NUM_THREADS", str(max(1, n_cores() // parallel)))
        if n_accelerators > 1:
            chosen.setdefault("CUDA_VISIBLE_DEVICES", str(place % n_accelerators))
    return chosen


def default_places() -> int:
    """How many runs a sweep has at once where nothing is set: one for each process that torchrun started on this machine, or
    for each accelerator, else one.
    """
    return local_world_size() if is_distributed() else max(1, n_accelerators())


def n_accelerators() -> int:
    """Accelerators of this machine; without one torch is not imported."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return 0
    import torch

    return torch.cuda.device_count()


@contextlib.contextmanager
def _sweep_folder(sweep: Sweep) -> Iterator[None]:
    """Holds the sweep, so that another process does not run it too."""
    with disk_errors(sweep.place):
        sweep.place.mkdir(parents=True, exist_ok=True)
    with hold_lock(sweep.place / ".lock", f"{sweep.place}: process {{}} is already running this sweep"):
        yield


class _Runs:
    """The runs that wait, those that are running, by their place, and what became of the others."""

    def __init__(self, sweep: Sweep, parallel: int, start: StartRun) -> None:
        self.sweep, self.parallel, self.start = sweep, parallel, start
        self.waiting = [run.name for run in sweep.runs]
        self.running: dict[int, tuple[str, Process, float]] = {}
        self.outcomes: dict[str, RunOutcome] = {}
        self.failed_stages: dict[str, str] = {}  # by the stage's key, the run that failed in it

    def all(self) -> list[RunOutcome]:
        try:
            while self.waiting or self.running:
                self._begin()
                self._collect()
        except BaseException:
            self._stop()
            raise
        return [self.outcomes[run.name] for run in self.sweep.runs]

    def _begin(self) -> None:
        while self.waiting and len(self.running) < self.parallel:
            name = self.waiting.pop(0)
            if self.sweep.is_finished(name):
                self._note(RunOutcome(name, "done", message="up to date"))
            elif blocked := self._blocked(name):
                self._note(RunOutcome(name, "failed", message=blocked))
            else:
                log(f"{self._count(name)} {name} begins")
                place = next(i for i in range(self.parallel) if i not in self.running)
                process = self.start(self.sweep, name, place, self.parallel)
                self.running[place] = (name, process, time.monotonic())

    def _collect(self) -> None:
        ended = {
            place: status
            for place, (_, process, _) in self.running.items()
            if (status := process.poll()) is not None
        }
        for place, status in ended.items():
            name, process, began = self.running.pop(place)
            if process.stdin is not None:
                process.stdin.close()
            seconds = time.monotonic() - began
            if status == STOPPED:
                raise KeyboardInterrupt
            self._note(self._outcome(name, status, seconds))
        if self.running and not ended:
            time.sleep(POLL_SECONDS)

    def _outcome(self, name: str, status: int, seconds: float) -> RunOutcome:
        if status == 0:
            return RunOutcome(name, "done", seconds)
        stage, message = failure(self.sweep.folder, name)
        if not message:
            message = (
                f"its process was ended by signal {-status}"
                if status < 0
                else f"its process ended with status {status}"
            )
        elif key := self.sweep.keys[name].get(stage):
            self.failed_stages.setdefault(key, name)
        printed = self.sweep.place / LOGS / f"{name}.log"
        where = f" (printed: {printed})" if self.parallel > 1 and printed.is_file() else ""
        return RunOutcome(name, "failed", seconds, (f"{stage}: " if stage else "") + message + where)

    def _blocked(self, name: str) -> str:
        """Why a run cannot be built; empty where it can."""
        for stage, key in self.sweep.keys[name].items():
            if (other := self.failed_stages.get(key)) is not None:
                return f"needs {stage}, which failed in {other}"
        return ""

    def _note(self, outcome: RunOutcome) -> None:
        self.outcomes[outcome.run] = outcome
        took = f" in {duration(outcome.seconds)}" if outcome.seconds else ""
        note = f": {outcome.message}" if outcome.message else ""
        log(f"{self._count(outcome.run)} {outcome.run} {outcome.status}{took}{note}")

    def _count(self, name: str) -> str:
        return f"[{[run.name for run in self.sweep.runs].index(name) + 1}/{len(self.sweep.runs)}]"

    def _stop(self) -> None:
        """End what is running: the end of its input stops a run, which writes its checkpoint."""
        for _, process, _ in self.running.values():
            if process.stdin is not None:
                process.stdin.close()
        for _, process, _ in self.running.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
