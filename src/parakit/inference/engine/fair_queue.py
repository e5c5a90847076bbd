"""The queue of rows that wait: higher priorities first, and equal shares for the clients of a priority.

Each client has a counter of the tokens that were computed for it, and the client with the smallest is next. A client that
comes back is lifted to the smallest counter of those who wait, so that nobody saves up turns while idle (Sheng et al. 2024,
"Fairness in serving large language models").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from parakit.inference.engine.requests import Row


class FairQueue:
    """Rows by priority and client."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[str, deque[Row]]] = {}
        self._served: dict[str, int] = {}
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    def push(self, row: Row, first: bool = False) -> None:
        """Add a row; `first`: before the others of its client, as one that ran already."""
        request = row.handle.request
        waiting = {client for clients in self._waiting.values() for client in clients}
        if not first and request.client not in waiting:
            least = min((self._served.get(client, 0) for client in waiting), default=0)
            self._served[request.client] = max(self._served.get(request.client, 0), least)
        rows = self._waiting.setdefault(request.priority, {}).setdefault(request.client, deque())
        rows.appendleft(row) if first else rows.append(row)
        row.is_waiting = True
        self._n_rows += 1

    def __iter__(self) -> Iterator[Row]:
        """Every row that waits."""
        return (row for clients in self._waiting.values() for rows in clients.values() for row in rows)

    def peek(self) -> Row | None:
        """The row that is next."""
        if not self._waiting:
            return None
        clients = self._waiting[max(self._waiting)]
        return clients[min(clients, key=lambda client: self._served.get(client, 0))][0]

    def remove(self, row: Row) -> None:
        """Take a row out, wherever it is."""
        request = row.handle.request
        clients = self._waiting[request.priority]
        clients[request.client].remove(row)
        row.is_waiting = False
        self._n_rows -= 1
        if not clients[request.client]:
            del clients[request.client]
        if not clients:
            del self._waiting[request.priority]

    def charge(self, client: str, n_tokens: int) -> None:
        """So many tokens were computed for a client."""
        self._served[client] = self._served.get(client, 0) + n_tokens

    def settle(self) -> None:
        """Nothing waits or runs: all clients begin again as equals."""
        self._served.clear()
