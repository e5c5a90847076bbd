"""Limits of a confined program, and how a process ended. Used on both sides of the fork server."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from parakit.common.errors import UserError

Limit = Literal["wall", "cpu", "memory", "output"]


@dataclass(frozen=True)
class Limits:
    """`scratch_bytes`: size of a private `/tmp` in memory, deleted afterwards; 0: nothing can be written."""

    cpu_seconds: int = 2
    wall_seconds: float = 10.0
    memory_bytes: int = 512 << 20
    output_bytes: int = 64 << 10
    scratch_bytes: int = 0

    def __post_init__(self) -> None:
        minimum = {"cpu_seconds": 1, "wall_seconds": 0.1, "memory_bytes": 64 << 20, "output_bytes": 0}
        for name, bound in (minimum | {"scratch_bytes": 0}).items():
            value = getattr(self, name)
            if not bound <= value < 1 << 40:
                raise UserError(f"{name} = {value}: not a limit", f"at least {bound}, and finite")


def describe_status(status: int) -> str:
    """An exit status, or minus the signal, in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


@dataclass(frozen=True)
class ExitInfo:
    """How a process ended, as the fork server reports it. `status`: exit status, or minus the signal."""

    status: int
    cpu_seconds: float
    seconds: float
    timed_out: bool
    confined: bool
    error: str = ""
    """Why isolation could not be applied; the program was not run then."""

    def time_limit(self, limits: Limits) -> Limit | None:
        """The time limit that was hit, if any. SIGXCPU is signal 24, SIGKILL 9."""
        if self.timed_out:
            return "wall"
        cpu_exceeded = self.status == -9 and self.cpu_seconds >= limits.cpu_seconds
        return "cpu" if cpu_exceeded or self.status == -24 else None
