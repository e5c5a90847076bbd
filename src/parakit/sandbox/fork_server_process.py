"""The fork server's process: forks confined processes on request. It has imported the interpreter and the modules that
generated programs use, so that each program costs one fork.

It imports the standard library only, reads no job, and holds no secret: a forked process finds nothing in its memory
but this code. One message starts a group of processes, with the files they get; one message reports when all have
ended. The first of a group is its leader: when it ends, the others are killed.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from parakit.sandbox import child as child_process
from parakit.sandbox.isolation import kernel, landlock, namespaces
from parakit.sandbox.isolation.apply import IsolationSpec
from parakit.sandbox.limits import ExitInfo, Limits, describe_status

MAX_MESSAGE, MAX_FILES = 1 << 16, 64
# Modules with shared libraries must be loaded before isolation, which hides the libraries; the others are those that
# generated programs import most.
PRELOADED = (
    "hashlib", "zlib", "bz2", "lzma", "decimal", "ctypes", "uuid", "xml.parsers.expat", "binascii",
    "random", "re", "typing", "math", "itertools", "functools", "collections", "heapq", "bisect", "string",
    "datetime", "statistics", "fractions", "operator", "copy", "dataclasses", "enum", "io", "json", "array",
    "textwrap", "unicodedata", "encodings.idna", "struct", "calendar", "time", "traceback", "queue",
    "contextlib", "cmath", "secrets",
)  # fmt: skip


@dataclass
class _Child:
    pid: int
    pidfd: int  # readable when the process has ended
    report: int
    started: float
    exit_info: ExitInfo | None = None
    timed_out: bool = False


class _Server:
    def __init__(self, control: socket.socket, isolation: IsolationSpec) -> None:
        self.control, self.isolation = control, isolation

    def serve(self) -> None:
        """Serve until the other end of the socket is closed."""
        while True:
            message, files, _, _ = socket.recv_fds(self.control, MAX_MESSAGE, MAX_FILES)
            if not message:
                return
            request = json.loads(message)
            if "stop" not in request:  # else it came late: all had ended
                self.control.send(json.dumps(self._run_group(request, files)).encode())

    def _run_group(self, request: dict[str, Any], files: list[int]) -> list[dict[str, Any]]:
        children, begin = [], 0
        for job in request["jobs"]:
            end = begin + job["n_files"]
            children.append(self._fork(job, files[begin:end]))
            begin = end
        for file in files:
            os.close(file)
        self._wait(children, time.monotonic() + request["wall_seconds"])
        return [asdict(child.exit_info) for child in children if child.exit_info]

    def _fork(self, job: dict[str, Any], files: list[int]) -> _Child:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 71
            try:
                ruleset = self.isolation.ruleset
                try:
                    _keep_only([*files, write_end, *([] if ruleset is None else [ruleset])])
                except OSError as error:  # the files are in their places: only closing the others can fail
                    os.write(len(files), f"{type(error).__name__}: {error}".encode())
                    raise
                isolation = replace(self.isolation, ruleset=None if ruleset is None else len(files) + 1)
                status = child_process.run_confined(
                    job["role"], Limits(**job["limits"]), isolation, len(files)
                )
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(write_end)
        return _Child(pid, os.pidfd_open(pid), read_end, time.monotonic())

    def _wait(self, children: list[_Child], deadline: float) -> None:
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        for child in children:
            poll.register(child.pidfd, select.POLLIN)
        while running := [child for child in children if child.exit_info is None]:
            remaining = deadline - time.monotonic()
            ready = {file for file, _ in poll.poll(max(remaining, 0) * 1000)}
            if not ready and remaining <= 0:
                deadline = time.monotonic() + 60  # they are being killed
                for child in running:
                    child.timed_out = True
                    os.kill(child.pid, signal.SIGKILL)
            for child in running:
                if child.pidfd in ready:
                    poll.unregister(child.pidfd)
                    _reap(child)
                    if child is children[0]:
                        _kill(children)
            if self.control.fileno() in ready:
                _kill(children)
                if not self.control.recv(MAX_MESSAGE):
                    os._exit(0)


def _kill(children: list[_Child]) -> None:
    for child in children:
        if child.exit_info is None:
            os.kill(child.pid, signal.SIGKILL)


def _reap(child: _Child) -> None:
    _, status, usage = os.wait4(child.pid, 0)
    report = os.read(child.report, 4096)
    child.exit_info = ExitInfo(
        status=os.waitstatus_to_exitcode(status),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        seconds=time.monotonic() - child.started,
        timed_out=child.timed_out,
        confined=report == child_process.CONFINED,
        error="" if report == child_process.CONFINED else report.decode(errors="replace") or _ending(status),
    )
    os.close(child.pidfd)
    os.close(child.report)


def _ending(wait_status: int) -> str:
    return f"it ended before it was confined, with {describe_status(os.waitstatus_to_exitcode(wait_status))}"


def _keep_only(files: Sequence[int]) -> None:
    """Make `files` descriptors 0, 1, 2, ... and close all others. First they are moved out of each other's way."""
    high = [os.dup(file) for file in files]
    top = max([*high, len(files)]) + 1
    high = [os.dup2(file, top + i) for i, file in enumerate(high)]
    for descriptor, file in enumerate(high):
        os.dup2(file, descriptor)
    kernel.system_call("close_range", len(files), 0x7FFFFFFF, 0)


def _require_pidfd() -> None:
    """`OSError` that names the call where this machine or Python has none."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as error:
        raise OSError(f"pidfd_open: {getattr(error, 'strerror', None) or error}") from None


def main(control_file: int, kind: str) -> None:
    """Serve on an open socket, with isolation `kind` "namespaces" or "landlock"."""
    control = socket.socket(fileno=control_file)
    folders = [folder for folder in sys.path if os.path.isdir(folder)]
    try:
        kernel.architecture()
        _require_pidfd()
        for name in PRELOADED:
            try:
                importlib.import_module(name)
            except ImportError:  # a Python built without it
                continue
        if kind == "namespaces":
            namespaces.enter(folders)
        isolation = IsolationSpec.detect(folders, kind == "namespaces")
        kernel.set_process(kernel.SET_DUMPABLE, 0)
    except Exception as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    control.send(json.dumps({"landlock": landlock.version()}).encode())
    _Server(control, isolation).serve()
