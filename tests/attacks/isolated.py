"""One case of an attack in a process of its own: how it ended, what it took, and whether it ran or contacted anything.

The case is forked, so torch is imported once. Its address space is bounded, it is killed when it is too slow, and an
audit hook notes every program that it starts, every socket and every piece of code from the attacked folder. Only the
two helper processes of Parakit (the sandbox of templates, the check of tokenizers) may be started.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS, MEGABYTES = 20.0, 2048
_HELPERS = ("chat.template_sandbox import serve", "bounded_tokenizer.py")
_STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn", "pty.spawn")


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `fault` is empty where it held: it ended by itself, with a result or a refusal."""

    status: int | None
    fault: str
    seconds: float
    megabytes: float  # above what the process had when the case began
    output: str

    @property
    def refused(self) -> bool:
        """Whether the command refused its input with a message."""
        return not self.fault and self.status == 2


def run(
    case: Callable[[], int], folder: Path, seconds: float = SECONDS, megabytes: int = MEGABYTES
) -> Outcome:
    """Run `case`, which returns an exit status, in a forked process; `folder` is what it reads."""
    read_end, write_end = os.pipe()
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where a library has threads
        pid = os.fork()
    if pid == 0:
        os.close(read_end)
        os.setpgid(0, 0)
        _run_child(case, folder, write_end, megabytes)
    os.close(write_end)
    report = _receive(read_end, started + seconds)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # and whatever it started
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, ended, _ = os.wait4(pid, 0)
    took = time.monotonic() - started
    if report is None:
        fault = f"over {seconds:g} s" if took >= seconds else f"killed: wait status {ended}"
        return Outcome(None, fault, took, 0.0, "")
    return Outcome(report["status"], report["fault"], took, report["megabytes"], report["output"])


def main_of(argv: Sequence[object]) -> Callable[[], int]:
    """A `parakit` command as a case."""

    def case() -> int:
        from parakit.cli.main import main

        try:
            return main([str(word) for word in argv])
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 1

    return case


def _receive(read_end: int, deadline: float) -> dict[str, Any] | None:
    """The child's report; None where it ends or the time is over without one."""
    received = bytearray()
    with os.fdopen(read_end, "rb", 0) as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (data := pipe.read(1 << 16)):
                break
            received += data
    return json.loads(received) if received.endswith(b"\n") else None


def _run_child(case: Callable[[], int], folder: Path, report_end: int, megabytes: int) -> None:
    """Run the case, report, and leave without the parent's clean-up."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    notes: list[str] = []
    status: int | None = None
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        for stream in (sys.stdout.fileno(), sys.stderr.fileno()) if _have_descriptors() else (1, 2):
            os.dup2(output.fileno(), stream)
        sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        _limit_memory(megabytes)
        sys.addaudithook(lambda event, values: _note(event, values, str(folder), notes))
        try:
            status = case()
        except BaseException as error:
            frames = [
                frame for frame in traceback.extract_tb(error.__traceback__) if "parakit" in frame.filename
            ]
            at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            notes.insert(0, f"traceback: {type(error).__name__} at {at}: {str(error)[:200]}")
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        output.seek(0)
        text = output.read()
    if "Traceback (most recent call last)" in text and not notes:
        notes.append("a traceback was printed")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = {
        "status": status,
        "fault": "; ".join(notes),
        "megabytes": after - before,
        "output": text[-2000:],
    }
    os.write(report_end, json.dumps(report).encode() + b"\n")
    os._exit(0)


def _have_descriptors() -> bool:
    try:
        return sys.stdout.fileno() >= 0 and sys.stderr.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False


def _limit_memory(megabytes: int) -> None:
    with open("/proc/self/statm") as file:
        n_now = int(file.read().split()[0]) * resource.getpagesize()
    limit = n_now + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _note(event: str, values: tuple[Any, ...], folder: str, notes: list[str]) -> None:
    if event.startswith("socket.") and event != "socket.gethostname":
        notes.append(f"opened a socket: {event}")
    elif event in _STARTS:
        words = [str(word) for word in values[1]] if event == "subprocess.Popen" else [str(values)]
        if not (
            words[:2] == [sys.executable, "-I"] and any(name in " ".join(words[2:]) for name in _HELPERS)
        ):
            notes.append(f"started a program: {words[:4]}")
    elif event == "exec" and str(getattr(values[0], "co_filename", "")).startswith(folder):
        notes.append(f"ran code of the folder: {values[0].co_filename}")
    elif event == "pickle.find_class":
        notes.append(f"unpickled {values[1]}.{values[2]}")
