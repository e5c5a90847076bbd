"""The clock of quotas: seconds that only advance, whatever the time of day does.

Within one start of the machine it follows the time since boot, suspended time included. From one start to the next it
adds what the time of day has advanced, and nothing where that went back. A time of day that jumps therefore never opens
a used quota again, nor stops one for a year. Dates in reports are the time of day.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Instant:
    """What the clocks of the machine show: the time of day, the start of the machine, and seconds since then."""

    wall: float
    boot: str
    boot_seconds: float


def instant() -> Instant:
    """Now. Without a name of the machine's start (not Linux) it is empty, and only the time of day connects two runs."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Instant(time.time(), boot, seconds_since_boot())


def seconds_since_boot() -> float:
    """Monotonic seconds, those in which the machine was suspended included where the system counts them."""
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


class LedgerClock:
    """Resumes at what the database holds. `start`: what the clocks show now."""

    def __init__(self, connection: sqlite3.Connection, start: Instant) -> None:
        row = connection.execute("SELECT clock, wall, boot, boot_seconds FROM clock").fetchone()
        self.start = start
        if row is None:
            self.offset = start.wall
            return
        clock, wall, boot, boot_seconds = row
        same = boot == start.boot != "" and start.boot_seconds >= boot_seconds
        self.offset = clock + (start.boot_seconds - boot_seconds if same else max(0.0, start.wall - wall))

    def now(self) -> float:
        """Seconds; the first is the time of day at which the database was made."""
        return self.offset + seconds_since_boot() - self.start.boot_seconds

    def store(self, connection: sqlite3.Connection) -> None:
        """Write the clock, inside a transaction; another server's later value stays."""
        now = instant()
        connection.execute(
            "INSERT INTO clock VALUES (1, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET clock=excluded.clock,"
            " wall=excluded.wall, boot=excluded.boot, boot_seconds=excluded.boot_seconds"
            " WHERE excluded.clock > clock.clock",
            (self.now(), now.wall, now.boot, now.boot_seconds),
        )
