"""Keepers as this process sees them: started when first needed, lent to one caller at a time, ended with this process.

Which walls a machine gives is found by trying: the first keeper of a kind has to hold a program that does its best to
break out (`probe.py`). A kind that does not hold is not used, and where none does, everything is refused.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.hardware import n_cores
from parakit.sandbox.limits import Ended, Limits

KINDS = ("namespaces", "landlock")
MOST_AT_ONCE = 8
_PATIENCE = 60.0  # seconds that a keeper may take to start
_HINT = (
    "a Linux kernel of 5.13 or later with seccomp, and user namespaces or Landlock, on x86_64 or aarch64; in a"
    " container, one whose profile allows either"
)
_GONE = (
    "begin the same command again; if it happens again, see what ends processes here, such as want of memory"
)
_PACKAGES = Path(__file__).resolve().parents[1]
# The packages around this folder, without running what they import.
_BEGIN = """
import sys, types
for name, folder in (("parakit", ""), ("parakit.common", "/common"), ("parakit.sandbox", "/sandbox")):
    package = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + folder]
    sys.modules[name] = package
from parakit.sandbox.fork_server import main
main(int(sys.argv[2]), sys.argv[3])
"""


class SandboxError(UserError):
    """There is no sandbox here that holds, or it broke; nothing foreign was run outside of one."""


@dataclass(frozen=True)
class Job:
    """A process to be confined. `files` become its descriptors 0, 1, ...; the job itself is number 3 of them."""

    role: str
    limits: Limits
    files: Sequence[int]


class Keeper:
    """A keeper process and the socket to it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-SsP", "-Xutf8", "-c", _BEGIN, str(_PACKAGES), str(theirs.fileno()), kind],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"},  # the order of sets, and with it a result, is always the same
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        said = self._first_word()
        if "error" in said:
            self.close()
            raise SandboxError(f"{kind}: {said['error']}", _HINT)
        self.landlock: int = said["landlock"]

    def _first_word(self) -> dict[str, Any]:
        self.control.settimeout(_PATIENCE)
        try:
            return self._receive()
        except (TimeoutError, SandboxError) as error:
            return {"error": f"the keeper did not start ({error})"}
        finally:
            self.control.settimeout(None)

    def start(self, jobs: Sequence[Job], wall_seconds: float) -> None:
        """Begin a group; the first is its leader."""
        asked = [{"role": job.role, "limits": asdict(job.limits), "n_files": len(job.files)} for job in jobs]
        message = json.dumps({"jobs": asked, "wall_seconds": wall_seconds}).encode()
        try:
            socket.send_fds(self.control, [message], [file for job in jobs for file in job.files])
        except OSError as error:
            raise SandboxError(
                f"{self.kind}: the keeper of confined programs is gone: {error}", _HINT
            ) from None

    def stop(self) -> None:
        """Kill the group, if it is still there."""
        with contextlib.suppress(OSError):  # nobody is there any more
            self.control.send(b'{"stop": true}')

    def ended(self) -> list[Ended]:
        """Wait for the whole group; `SandboxError` where one could not be confined, and so did not run."""
        found = [Ended(**said) for said in self._receive()]
        for end in found:
            if not end.confined and not (end.timed_out or end.status == -9):
                raise SandboxError(f"{self.kind}: a program could not be confined: {end.trouble}", _HINT)
        return found

    def _receive(self) -> Any:
        message = b""
        with contextlib.suppress(ConnectionError):
            message = self.control.recv(1 << 16)
        if not message:
            raise SandboxError(f"{self.kind}: the keeper of confined programs ended by itself", _GONE)
        return json.loads(message)

    def forget(self) -> None:
        """In a process that was forked off: leave the keeper to its parent."""
        self.control.close()
        self.process.returncode = 0  # not ours to wait for

    def close(self) -> None:
        """End the process and all it forked."""
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()


class _Pool:
    """Keepers that nobody uses now. A process that was forked off starts with none: they are its parent's."""

    def __init__(self) -> None:
        self.lock, self.idle = threading.Lock(), list[Keeper]()
        self.owner = os.getpid()

    @contextlib.contextmanager
    def keeper(self) -> Iterator[Keeper]:
        kind = walls_here()
        with self.lock:
            if self.owner != os.getpid():
                for theirs in self.idle:
                    theirs.forget()
                self.idle, self.owner = [], os.getpid()
            keeper = self.idle.pop() if self.idle else None
        keeper = keeper or Keeper(kind)
        try:
            yield keeper
        except BaseException:
            keeper.close()
            raise
        with self.lock:
            self.idle.append(keeper)

    def close(self) -> None:
        with self.lock:
            idle, self.idle = self.idle, []
        for keeper in idle if self.owner == os.getpid() else ():
            keeper.close()


_pool = _Pool()
atexit.register(_pool.close)
borrowed_keeper = _pool.keeper


@functools.cache
def _examined() -> tuple[str | None, str]:
    """The kind of walls that holds here, and what can be said of it, or why none does."""
    if sys.platform != "linux":
        return None, f"programs cannot be confined on {sys.platform}"
    from parakit.sandbox.probe import examine

    reasons = []
    for kind in KINDS:
        try:
            keeper = Keeper(kind)
            try:
                leaks = examine(keeper)
                version = keeper.landlock
            finally:
                keeper.close()
        except (SandboxError, OSError) as error:
            reasons.append(getattr(error, "message", str(error)))
            continue
        if not leaks:
            return kind, " + ".join(
                [kind] * (kind != "landlock") + [f"Landlock {version}"] * (version > 0) + ["seccomp"]
            )
        reasons.append(f"{kind}: {', '.join(leaks)}")
    return None, "; ".join(reasons)


def walls_here() -> str:
    """The kind of walls that holds on this machine, tried once in this process; `SandboxError` where none does."""
    kind, told = _examined()
    if kind is None:
        raise SandboxError(f"generated code cannot be confined on this machine: {told}", _HINT)
    return kind


def sandbox_status() -> str:
    """One line: what confines generated programs here, or why they are refused."""
    kind, told = _examined()
    return f"sandbox: {told}" if kind else f"no sandbox, generated code is refused: {told}"


def n_at_once() -> int:
    """Programs that run side by side."""
    return max(1, min(n_cores(), MOST_AT_ONCE))
