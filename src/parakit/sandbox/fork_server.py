"""The keeper: a small process that forks confined processes on request. Started once, it has paid for the interpreter and
for the modules that generated programs ask for, so that each program costs a fork.

It imports nothing but the standard library, reads no job, and holds no secret: a process that it forks finds nothing
in its memory but this code. One message asks for a group of processes, with the files they get; one message answers
when all have ended. The first of a group is its leader: when it ends, the others are killed.
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
from dataclasses import dataclass, replace
from typing import Any

from parakit.sandbox import child as inside
from parakit.sandbox.isolation import kernel, landlock
from parakit.sandbox.isolation import namespaces as rooms
from parakit.sandbox.isolation.apply import Surroundings
from parakit.sandbox.limits import Limits

MAX_MESSAGE, MAX_FILES = 1 << 16, 64
# Those with libraries of their own must be there already, for the libraries cannot be read from behind the walls; the
# others are what generated programs import most.
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
    handle: int  # a pidfd: readable when the process has ended
    report: int
    started: float
    ended: dict[str, Any] | None = None
    timed_out: bool = False


class _Keeper:
    def __init__(self, control: socket.socket, around: Surroundings) -> None:
        self.control, self.around = control, around

    def serve(self) -> None:
        """Until the other side is gone."""
        while True:
            message, files, _, _ = socket.recv_fds(self.control, MAX_MESSAGE, MAX_FILES)
            if not message:
                return
            request = json.loads(message)
            if "stop" not in request:  # else it came late: all had ended
                self.control.send(json.dumps(self._group(request, files)).encode())

    def _group(self, request: dict[str, Any], files: list[int]) -> list[dict[str, Any]]:
        children, begin = [], 0
        for job in request["jobs"]:
            end = begin + job["n_files"]
            children.append(self._fork(job, files[begin:end]))
            begin = end
        for file in files:
            os.close(file)
        self._attend(children, time.monotonic() + request["wall_seconds"])
        return [child.ended or {} for child in children]

    def _fork(self, job: dict[str, Any], own: list[int]) -> _Child:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 71
            try:
                ruleset = self.around.ruleset
                _only([*own, writing, *([] if ruleset is None else [ruleset])])
                around = replace(self.around, ruleset=None if ruleset is None else len(own) + 1)
                status = inside.run_job(job["role"], Limits(**job["limits"]), around, len(own))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        return _Child(pid, os.pidfd_open(pid), reading, time.monotonic())

    def _attend(self, children: list[_Child], deadline: float) -> None:
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        for child in children:
            poll.register(child.handle, select.POLLIN)
        while running := [child for child in children if child.ended is None]:
            left = deadline - time.monotonic()
            ready = {file for file, _ in poll.poll(max(left, 0) * 1000)}
            if not ready and left <= 0:
                deadline = time.monotonic() + 60  # they are being killed
                for child in running:
                    child.timed_out = True
                    os.kill(child.pid, signal.SIGKILL)
            for child in running:
                if child.handle in ready:
                    poll.unregister(child.handle)
                    _reap(child)
                    if child is children[0]:
                        _kill(children)
            if self.control.fileno() in ready:
                _kill(children)
                if not self.control.recv(MAX_MESSAGE):
                    os._exit(0)


def _kill(children: list[_Child]) -> None:
    for child in children:
        if child.ended is None:
            os.kill(child.pid, signal.SIGKILL)


def _reap(child: _Child) -> None:
    _, status, usage = os.wait4(child.pid, 0)
    said = os.read(child.report, 4096)
    child.ended = {
        "status": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "seconds": time.monotonic() - child.started,
        "timed_out": child.timed_out,
        "confined": said == inside.CONFINED,
        "trouble": "" if said == inside.CONFINED else said.decode(errors="replace"),
    }
    os.close(child.handle)
    os.close(child.report)


def _only(files: Sequence[int]) -> None:
    """Make `files` descriptors 0, 1, 2, ... and close all others. Moved out of each other's way first."""
    high = [os.dup(file) for file in files]
    top = max([*high, len(files)]) + 1
    high = [os.dup2(file, top + i) for i, file in enumerate(high)]
    for place, file in enumerate(high):
        os.dup2(file, place)
    kernel.system_call("close_range", len(files), 0x7FFFFFFF, 0)


def main(control_file: int, kind: str) -> None:
    """Serve on an open socket, in a room of its own (`kind` "namespaces") or not ("landlock")."""
    control = socket.socket(fileno=control_file)
    folders = [folder for folder in sys.path if os.path.isdir(folder)]
    try:
        kernel.architecture()
        for name in PRELOADED:
            try:
                importlib.import_module(name)
            except ImportError:  # a Python built without it
                continue
        if kind == "namespaces":
            rooms.enter_room(folders)
        around = Surroundings.found(folders, kind == "namespaces")
        kernel.set_process(kernel.SET_DUMPABLE, 0)
    except Exception as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    control.send(json.dumps({"landlock": landlock.version()}).encode())
    _Keeper(control, around).serve()
