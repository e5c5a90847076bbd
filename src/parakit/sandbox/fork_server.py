"""The fork server as its parent process sees it: a process (`fork_server_process.py`) and the socket to it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.sandbox.limits import ExitInfo, Limits, describe_status

HINT = (
    "a Linux kernel of 5.13 or later with seccomp, and user namespaces or Landlock, on x86_64 or aarch64; in a"
    " container, one whose profile allows either"
)
_HINT_ENDED = (
    "run the command again; if it happens again, find out what kills processes here, such as a lack of memory"
)
_START_TIMEOUT = 60.0  # seconds
_PACKAGES = Path(__file__).resolve().parents[1]
# Stub packages: the process imports the sandbox's modules without running any `__init__.py` above them.
_BOOTSTRAP = """
import sys, types
for name, folder in (("parakit", ""), ("parakit.common", "/common"), ("parakit.sandbox", "/sandbox")):
    package = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + folder]
    sys.modules[name] = package
from parakit.sandbox.fork_server_process import main
main(int(sys.argv[2]), sys.argv[3])
"""


class SandboxError(UserError):
    """No isolation works on this machine, or the sandbox broke; no untrusted code was run outside of it."""


@dataclass(frozen=True)
class Job:
    """A process to be confined. `files` become its descriptors 0, 1, ...; number 3 is the job itself. `role` is what
    the process does: program, serve or judge.
    """

    role: str
    limits: Limits
    files: Sequence[int]


class ForkServer:
    """A fork server process with isolation of one `kind`; `SandboxError` where it cannot start."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.control, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with server_end:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-SsP",
                    "-Xutf8",
                    "-c",
                    _BOOTSTRAP,
                    str(_PACKAGES),
                    str(server_end.fileno()),
                    kind,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"},  # the order of sets, and with it a result, is always the same
                cwd="/",
                pass_fds=[server_end.fileno()],
                start_new_session=True,
            )
        reply = self._first_message()
        if "error" in reply:
            self.close()
            raise SandboxError(f"{kind}: {reply['error']}", HINT)
        self.landlock: int = reply["landlock"]

    def _first_message(self) -> dict[str, Any]:
        self.control.settimeout(_START_TIMEOUT)
        try:
            return self._receive()
        except (TimeoutError, SandboxError) as error:
            why = error.message if isinstance(error, SandboxError) else f"no answer in {_START_TIMEOUT:.0f} s"
            return {"error": f"the fork server did not start ({why})"}
        finally:
            self.control.settimeout(None)

    def start(self, jobs: Sequence[Job], wall_seconds: float) -> None:
        """Start a group of processes; the first is its leader."""
        specs = [{"role": job.role, "limits": asdict(job.limits), "n_files": len(job.files)} for job in jobs]
        message = json.dumps({"jobs": specs, "wall_seconds": wall_seconds}).encode()
        try:
            socket.send_fds(self.control, [message], [file for job in jobs for file in job.files])
        except OSError as error:
            raise SandboxError(f"{self.kind}: the fork server is gone: {error}", HINT) from None

    def stop(self) -> None:
        """Kill the group, if it is still running."""
        with contextlib.suppress(OSError):  # the process has ended
            self.control.send(b'{"stop": true}')

    def wait(self) -> list[ExitInfo]:
        """Wait for the whole group; `SandboxError` where a process could not be confined, and so did not run."""
        exits = [ExitInfo(**fields) for fields in self._receive()]
        for info in exits:
            if not info.confined and not (info.timed_out or info.status == -9):
                raise SandboxError(f"{self.kind}: a program could not be confined: {info.error}", HINT)
        return exits

    def _receive(self) -> Any:
        message = b""
        with contextlib.suppress(ConnectionError):
            message = self.control.recv(1 << 16)
        if not message:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
            status = self.process.returncode
            how = "" if status is None else f", with {describe_status(status)}"
            raise SandboxError(f"{self.kind}: the fork server ended by itself{how}", _HINT_ENDED)
        return json.loads(message)

    def detach(self) -> None:
        """After a fork, in the child: leave the server to the parent process."""
        self.control.close()
        self.process.returncode = 0  # this process cannot wait for it

    def close(self) -> None:
        """End the process and all that it forked."""
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
