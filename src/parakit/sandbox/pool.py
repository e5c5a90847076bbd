"""Fork servers of this process, and programs run on them: started when first needed, used by one caller at a time,
ended with this process.

Which isolation a machine provides is found by trying: on the first server of a kind a program tries to break out
(`probe.py`). A kind with a leak is not used; where every kind leaks, all programs are refused.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from parakit.common.hardware import n_cores
from parakit.sandbox.fork_server import HINT, ForkServer, SandboxError
from parakit.sandbox.limits import Limits
from parakit.sandbox.probe import find_leaks
from parakit.sandbox.running import Run, run_on

KINDS = ("namespaces", "landlock")
MAX_PARALLEL = 8


class _Pool:
    """Idle fork servers. A forked process starts with none: those in its memory belong to its parent."""

    def __init__(self) -> None:
        self.lock, self.idle = threading.Lock(), list[ForkServer]()
        self.owner = os.getpid()

    @contextlib.contextmanager
    def server(self) -> Iterator[ForkServer]:
        kind = available_isolation()
        with self.lock:
            if self.owner != os.getpid():
                for inherited in self.idle:
                    inherited.detach()
                self.idle, self.owner = [], os.getpid()
            server = self.idle.pop() if self.idle else None
        server = server or ForkServer(kind)
        try:
            yield server
        except BaseException:
            server.close()
            raise
        with self.lock:
            self.idle.append(server)

    def close(self) -> None:
        with self.lock:
            idle, self.idle = self.idle, []
        for server in idle if self.owner == os.getpid() else ():
            server.close()


_pool = _Pool()
atexit.register(_pool.close)
pooled_server = _pool.server


def run_python(code: str, stdin: str = "", limits: Limits | None = None) -> Run:
    """Run `code` as a confined program. `SandboxError` where this machine provides no isolation."""
    with pooled_server() as server:
        return run_on(server, code, stdin, limits or Limits())


def run_many(codes: list[str], stdin: str = "", limits: Limits | None = None) -> list[Run]:
    """`run_python` of each, several in parallel; results in order."""
    with ThreadPoolExecutor(max_parallel()) as threads:
        return list(threads.map(lambda code: run_python(code, stdin, limits), codes))


def max_parallel() -> int:
    """How many programs run in parallel."""
    return max(1, min(n_cores(), MAX_PARALLEL))


@functools.cache
def _probe_isolation() -> tuple[str | None, str]:
    """The kind of isolation that works here and its description; or None and the reasons."""
    if sys.platform != "linux":
        return None, f"programs cannot be confined on {sys.platform}"
    reasons = []
    for kind in KINDS:
        try:
            server = ForkServer(kind)
            try:
                leaks = find_leaks(server)
                version = server.landlock
            finally:
                server.close()
        except (SandboxError, OSError) as error:
            reasons.append(getattr(error, "message", str(error)))
            continue
        if not leaks:
            return kind, " + ".join(
                [kind] * (kind != "landlock") + [f"Landlock {version}"] * (version > 0) + ["seccomp"]
            )
        reasons.append(f"{kind}: {', '.join(leaks)}")
    return None, "; ".join(reasons)


def available_isolation() -> str:
    """The kind of isolation that works on this machine, probed once in this process; `SandboxError` where none does."""
    kind, description = _probe_isolation()
    if kind is None:
        raise SandboxError(f"generated code cannot be confined on this machine: {description}", HINT)
    return kind


def sandbox_status() -> str:
    """One line: what confines generated programs here, or why they are refused."""
    kind, description = _probe_isolation()
    return f"sandbox: {description}" if kind else f"no sandbox, generated code is refused: {description}"
