"""Commands of Parakit that run as processes for another assistant: started, waited for, looked at later, and ended with the
server.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.common.files import JsonObject

MAX_RUNNING = 4
N_LINES = 20  # of the end of a command's messages


@dataclass
class _Job:
    command: str
    process: subprocess.Popen[bytes]
    output: Path
    messages: Path


class Jobs:
    """The commands of one server, in one folder. `close` ends those that run; a build continues where it was when it is started
    again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = tempfile.TemporaryDirectory(prefix="parakit-mcp-")
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def start(self, arguments: Sequence[str]) -> str:
        """Start `parakit ARGUMENTS`; the id of the job. `RuntimeError` where too many run."""
        with self._lock:
            running = [name for name, job in self._jobs.items() if job.process.poll() is None]
            if len(running) >= MAX_RUNNING:
                raise RuntimeError(f"{MAX_RUNNING} jobs run already: {', '.join(running)}")
            name = f"job-{len(self._jobs) + 1}"
            output, messages = (Path(self._files.name) / f"{name}.{end}" for end in ("out", "err"))
            with output.open("wb") as out, messages.open("wb") as err:
                process = subprocess.Popen(
                    [sys.executable, "-m", "parakit", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=self.folder,
                    start_new_session=True,
                )
            self._jobs[name] = _Job("parakit " + " ".join(arguments), process, output, messages)
            return name

    def wait(self, name: str, seconds: float) -> JsonObject:
        """The state of a job after it has ended, or after so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired, KeyError):
            self._jobs[name].process.wait(seconds)
        return self.state(name)

    def state(self, name: str) -> JsonObject:
        """Whether a job runs, its output when it has ended, and the end of its messages. `KeyError` for an unknown one."""
        job = self._jobs[name]
        status = job.process.poll()
        lines = job.messages.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        state = "running" if status is None else "finished" if status == 0 else f"failed with status {status}"
        row: JsonObject = {"job": name, "command": job.command, "state": state, "messages": lines[-N_LINES:]}
        if status is not None:
            row["output"] = job.output.read_text(encoding="utf-8", errors="replace")
        return row

    def stop(self, name: str) -> None:
        """End a job's process and what it has started."""
        process = self._jobs[name].process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """End all that runs."""
        for name, job in self._jobs.items():
            if job.process.poll() is None:
                self.stop(name)
        self._files.cleanup()
