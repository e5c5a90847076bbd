"""Responses that later requests continue, in memory: bounded in number and size, the oldest go first.

Nothing is written to a disk, and a restart forgets all. A response belongs to the account that made it.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message


@dataclass(frozen=True)
class StoredResponse:
    """A response, the items that were sent with it, and the conversation with its output, without instructions."""

    response: JsonObject
    items: Sequence[JsonObject]
    messages: Sequence[Message]


class ResponseStore:
    """The newest responses by account and id."""

    def __init__(self, max_responses: int = 1000, max_bytes: int = 64 << 20) -> None:
        self._max_responses, self._max_bytes = max_responses, max_bytes
        self._stored: OrderedDict[tuple[str, str], tuple[StoredResponse, int]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def put(self, account: str, stored: StoredResponse) -> None:
        """Keep a response; the oldest ones are forgotten where there are too many."""
        size = len(json.dumps(stored.response)) + sum(len(m.content) + 200 for m in stored.messages)
        with self._lock:
            self._stored[account, stored.response["id"]] = (stored, size)
            self._n_bytes += size
            while len(self._stored) > self._max_responses or self._n_bytes > self._max_bytes:
                self._n_bytes -= self._stored.popitem(last=False)[1][1]

    def get(self, account: str, response_id: str) -> StoredResponse | None:
        """The response; None where there is none."""
        with self._lock:
            found = self._stored.get((account, response_id))
        return None if found is None else found[0]

    def delete(self, account: str, response_id: str) -> None:
        """Forget the response."""
        with self._lock:
            self._n_bytes -= self._stored.pop((account, response_id), (None, 0))[1]
