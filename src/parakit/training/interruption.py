"""Ctrl-C and SIGTERM during a run: it stops after a checkpoint, and the same command resumes it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class TrainingInterrupted(KeyboardInterrupt):
    """The run was stopped by a signal; its checkpoint is written and the same command resumes from there."""

    def __init__(self, step: int, max_steps: int, signal_number: int) -> None:
        super().__init__(f"stopped after step {step} of {max_steps}; the same command resumes from there")
        self.signal_number = signal_number


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM append to; a second Ctrl-C stops at once. Only the main thread can catch signals."""
    received: list[int] = []

    def record_signal(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    previous = {}
    with contextlib.suppress(ValueError):
        previous = {
            number: signal.signal(number, record_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
