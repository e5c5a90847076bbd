"""Run one untrusted Python program on a fork server: its output, its exit, the limit it hit."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from parakit.sandbox.fork_server import HINT, ForkServer, Job, SandboxError
from parakit.sandbox.limits import ExitInfo, Limit, Limits

_SEALS = 0x2 | 0x4 | 0x8  # F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE


@dataclass(frozen=True)
class Run:
    """What a program did. `status`: its exit status, or minus the signal that ended it; `limit`: the one it hit.
    `memory` is taken from the program's own last line (an uncaught MemoryError); the others are measured from outside.
    """

    status: int
    stdout: str
    stderr: str
    limit: Limit | None
    seconds: float
    cpu_seconds: float


def run_on(server: ForkServer, code: str, stdin: str, limits: Limits) -> Run:
    """Run `code` as a confined program on a server that the caller holds."""
    with contextlib.ExitStack() as stack:
        out, out_write = open_pipe(stack)
        err, err_write = open_pipe(stack)
        stdin_file = stack.enter_context(sealed_file(stdin.encode(errors="surrogatepass")))
        job = stack.enter_context(sealed_file(json.dumps({"code": code}).encode()))
        files = [stdin_file.fileno(), out_write.fileno(), err_write.fileno(), job.fileno()]
        server.start([Job("program", limits, files)], limits.wall_seconds)
        out_write.close()
        err_write.close()
        (stdout, stderr), overflowed = _collect(server, [out, err], limits.output_bytes)
        (info,) = server.wait()
    limit = _limit(info, limits, overflowed, stderr)
    return Run(info.status, stdout, stderr, limit, info.seconds, info.cpu_seconds)


@contextlib.contextmanager
def sealed_file(content: bytes) -> Iterator[IO[bytes]]:
    """A file in memory that can no longer be changed, positioned at its beginning."""
    with os.fdopen(_memory_file(), "r+b", 0) as file:
        os.truncate(file.fileno(), 0)
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[file.write(remaining) :]
        file.seek(0)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        yield file


def _memory_file() -> int:
    try:
        return os.memfd_create("job", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (OSError, AttributeError) as error:  # a kernel, a profile or a Python without it
        raise SandboxError(f"memfd_create: {getattr(error, 'strerror', None) or error}", HINT) from None


def open_pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """A pipe's read end and write end; `stack` closes them."""
    read_end, write_end = os.pipe()
    return (
        stack.enter_context(os.fdopen(read_end, "rb", 0)),
        stack.enter_context(os.fdopen(write_end, "wb", 0)),
    )


def _collect(server: ForkServer, pipes: list[IO[bytes]], max_bytes: int) -> tuple[list[str], bool]:
    """The text of the pipes, until they are closed or one exceeds `max_bytes`, which stops the group; and whether one
    did.
    """
    outputs, overflowed = [bytearray() for _ in pipes], False
    with selectors.DefaultSelector() as selector:
        for number, pipe in enumerate(pipes):
            selector.register(pipe, selectors.EVENT_READ, number)
        while selector.get_map() and not overflowed:
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 16)
                outputs[key.data] += data
                if not data:
                    selector.unregister(key.fileobj)
                if len(outputs[key.data]) > max_bytes:
                    overflowed = True
        if overflowed:
            server.stop()
    return [bytes(output[:max_bytes]).decode(errors="replace") for output in outputs], overflowed


def _limit(info: ExitInfo, limits: Limits, overflowed: bool, stderr: str) -> Limit | None:
    if overflowed:
        return "output"
    memory_error = stderr.rstrip().rpartition("\n")[2].startswith("MemoryError")
    return info.time_limit(limits) or ("memory" if memory_error and info.status == 1 else None)
