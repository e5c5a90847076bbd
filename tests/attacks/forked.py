"""An action in a forked child: its status and what it printed. What is imported once is imported for all."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

CRASHED = 70  # the status of a child in which an exception got away


@dataclass(frozen=True)
class Outcome:
    """`status`: the exit status, or minus the number of the signal that ended the child."""

    status: int
    printed: str

    @property
    def crashed(self) -> bool:
        """Whether it ended in a traceback, or in a signal that nobody sent."""
        return self.status == CRASHED or "Traceback (most recent call last)" in self.printed


def forked(
    action: Callable[[], int],
    *,
    max_file_bytes: int | None = None,
    kill_after: float | None = None,
    kill_with: int = signal.SIGKILL,
) -> Outcome:
    """Run `action` in a child; it returns the exit status. `max_file_bytes`: no file grows beyond, as on a full disk.
    `kill_after`: seconds until the signal `kill_with`.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _run_child(action, write_end, max_file_bytes)
    os.close(write_end)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, kill_with)
    with os.fdopen(read_end, "rb") as pipe:
        printed = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), printed)


def _run_child(action: Callable[[], int], write_end: int, max_file_bytes: int | None) -> None:
    status = CRASHED
    try:
        for descriptor in (1, 2):
            os.dup2(write_end, descriptor)
        os.close(write_end)
        sys.stdout, sys.stderr = (
            os.fdopen(os.dup(number), "w", encoding="utf-8", buffering=1) for number in (1, 2)
        )
        if max_file_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, hard))
        status = action()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
