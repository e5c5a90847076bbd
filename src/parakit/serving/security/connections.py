"""Closes connections that hold the server up: those that never send a request, and readers that take nothing.

uvicorn bounds neither. Once a second every connection is looked at, which costs about a microsecond each: one without a head of
a request is closed after `header_seconds`; one whose client has let an answer wait, and taken less than 512 bytes a second of
it, after `slow_seconds`. Over `max_connections`, those go first that have waited longest without a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from parakit.serving.security.config import SecurityConfig

MIN_BYTES_PER_SECOND = 512
PERIOD_SECONDS = 1.0


@dataclass
class _Seen:
    """What was seen of a connection. Times are those of the event loop; None: not in this state."""

    idle_since: float | None = None
    stalled_since: float | None = None
    n_waiting: int = 0
    n_taken: int = 0


class ConnectionGuard:
    """`connections`: uvicorn's own set of protocol objects, which changes meanwhile."""

    def __init__(self, connections: Collection[Any], config: SecurityConfig) -> None:
        self.connections, self.config = connections, config
        self._seen: WeakKeyDictionary[Any, _Seen] = WeakKeyDictionary()

    async def run(self) -> None:
        """Look at all connections every second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            self.check(loop.time())

    def check(self, now: float) -> None:
        """One look."""
        idle: list[tuple[float, Any]] = []
        for connection in list(self.connections):
            transport = getattr(connection, "transport", None)
            if transport is None or not hasattr(connection, "cycle"):
                continue  # a websocket, whose own protocol has pings
            seen = self._seen.setdefault(connection, _Seen())
            if self._is_stalled(connection, transport, seen, now):
                transport.abort()
                continue
            if not _is_idle(connection):
                seen.idle_since = None
                continue
            seen.idle_since = now if seen.idle_since is None else seen.idle_since
            waits_for_head = connection.timeout_keep_alive_task is None  # else uvicorn closes it in time
            if waits_for_head and now - seen.idle_since >= self.config.header_seconds:
                transport.abort()
            elif seen.idle_since < now:  # a connection that is new has a second for its request
                idle.append((seen.idle_since, transport))
        n_over = len(self.connections) - self.config.max_connections
        if n_over > 0:
            for _, transport in sorted(idle, key=lambda one: one[0])[:n_over]:
                transport.abort()

    def _is_stalled(self, connection: Any, transport: Any, seen: _Seen, now: float) -> bool:
        """Whether the client lets a finished or paused answer wait and takes almost nothing of it."""
        n_waiting = transport.get_write_buffer_size()
        if not n_waiting or not (connection.flow.write_paused or _is_idle(connection)):
            seen.stalled_since = None
            return False
        if seen.stalled_since is None:
            seen.stalled_since, seen.n_waiting, seen.n_taken = now, n_waiting, 0
        seen.n_taken += max(0, seen.n_waiting - n_waiting)
        seen.n_waiting = n_waiting
        if now - seen.stalled_since < self.config.slow_seconds:
            return False
        stalled = seen.n_taken < MIN_BYTES_PER_SECOND * self.config.slow_seconds
        seen.stalled_since = None
        return stalled


def _is_idle(connection: Any) -> bool:
    """Whether no request is under way: the head has not come, or the answer is written."""
    return connection.cycle is None or connection.cycle.response_complete
