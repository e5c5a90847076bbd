"""Waiting for what another thread or process does by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], seconds: float = 60.0, what: object = "") -> Found:
    """Call `condition` until it is true, and give what it gave.

    The limit is for a fault, never for a slow machine: it is far above what a busy one needs. `what`: shown when it passes.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not become so in {seconds} s. {what}"
        time.sleep(0.01)
    return found
