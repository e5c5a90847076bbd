"""Run one untrusted Python program and say what came of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

from parakit.sandbox.limits import Ended, Limit, Limits
from parakit.sandbox.pool import Job, Keeper, borrowed_keeper, n_at_once

_SEALS = 0x2 | 0x4 | 0x8  # neither shrink, grow nor write


@dataclass(frozen=True)
class Run:
    """What a program did. `status`: its exit status, or minus the signal that ended it; `limit`: the one it hit.
    `memory` is what the program itself said last (an uncaught MemoryError); the others are measured from outside.
    """

    status: int
    stdout: str
    stderr: str
    limit: Limit | None
    seconds: float
    cpu_seconds: float


def run_python(code: str, stdin: str = "", limits: Limits | None = None) -> Run:
    """Run `code` as a program of its own behind walls. `SandboxError` where this machine has none."""
    with borrowed_keeper() as keeper:
        return run_with(keeper, code, stdin, limits or Limits())


def run_many(codes: list[str], stdin: str = "", limits: Limits | None = None) -> list[Run]:
    """Some at a time, results in order."""
    with ThreadPoolExecutor(n_at_once()) as pool:
        return list(pool.map(lambda code: run_python(code, stdin, limits), codes))


def run_with(keeper: Keeper, code: str, stdin: str, limits: Limits) -> Run:
    """`run_python` on a keeper that the caller holds."""
    with contextlib.ExitStack() as stack:
        out, out_end = open_pipe(stack)
        err, err_end = open_pipe(stack)
        given = stack.enter_context(sealed(stdin.encode(errors="surrogatepass")))
        job = stack.enter_context(sealed(json.dumps({"code": code}).encode()))
        files = [given.fileno(), out_end.fileno(), err_end.fileno(), job.fileno()]
        keeper.start([Job("program", limits, files)], limits.wall_seconds)
        out_end.close()
        err_end.close()
        (stdout, stderr), flooded = _collect(keeper, [out, err], limits.output_bytes)
        (end,) = keeper.ended()
    limit = _limit(end, limits, flooded, stderr)
    return Run(end.status, stdout, stderr, limit, end.seconds, end.cpu_seconds)


@contextlib.contextmanager
def sealed(content: bytes) -> Iterator[IO[bytes]]:
    """A file in memory that nobody can change any more, to be read from its beginning."""
    with os.fdopen(os.memfd_create("job", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", 0) as file:
        os.truncate(file.fileno(), 0)
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]
        file.seek(0)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        yield file


def open_pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """A pipe's end to read from and its end to write to; `stack` closes them."""
    reading, writing = os.pipe()
    return (
        stack.enter_context(os.fdopen(reading, "rb", 0)),
        stack.enter_context(os.fdopen(writing, "wb", 0)),
    )


def _collect(keeper: Keeper, pipes: list[IO[bytes]], most: int) -> tuple[list[str], bool]:
    """What comes through the pipes, until they are closed or one brings more than `most` bytes, which ends all."""
    found, flooded = [bytearray() for _ in pipes], False
    with selectors.DefaultSelector() as selector:
        for place, pipe in enumerate(pipes):
            selector.register(pipe, selectors.EVENT_READ, place)
        while selector.get_map() and not flooded:
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 16)
                found[key.data] += data
                if not data:
                    selector.unregister(key.fileobj)
                if len(found[key.data]) > most:
                    flooded = True
        if flooded:
            keeper.stop()
    return [bytes(text[:most]).decode(errors="replace") for text in found], flooded


def _limit(end: Ended, limits: Limits, flooded: bool, stderr: str) -> Limit | None:
    if flooded:
        return "output"
    own = stderr.rstrip().rpartition("\n")[2].startswith("MemoryError")
    return end.limit(limits) or ("memory" if own and end.status == 1 else None)
