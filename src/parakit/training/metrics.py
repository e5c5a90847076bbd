"""Metrics of a run: JSON lines that outlive a crash, and TensorBoard events beside them.

One line a step, flushed at once. After a resume, lines beyond the resumed step are cut away, so that every
step stands exactly once. Events are written in the same thread: tensorboardX's own writer has one beside,
and when a full disk ends that, the training waits for it for ever.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from parakit.common.files import write_text_atomic

METRICS, EVENTS = "metrics.jsonl", "tensorboard"
FLUSH_SECONDS = 5.0


class EventsLog:
    """TensorBoard's event file in `folder`. Steps from `first_step + 1` on replace those of an earlier run."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self.records = RecordWriter(str(folder / f"events.out.tfevents.{now:.0f}.{os.getpid()}"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=first_step + 1, wall_time=now, session_log=start))
        self.flushed_at = time.monotonic()

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """One point of the curve `name`."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self._write(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))
        if time.monotonic() - self.flushed_at > FLUSH_SECONDS:
            self.records.flush()
            self.flushed_at = time.monotonic()

    def close(self) -> None:
        """Write what is left and close."""
        self.records.close()

    def _write(self, event: Any) -> None:
        self.records.write(event.SerializeToString())


class MetricsLog:
    """Appends to `folder/metrics.jsonl` and to event files in `folder/tensorboard`."""

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS
        if self.path.exists():
            kept = [row for row in read_metrics(self.path) if first_step and row["step"] <= first_step]
            write_text_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.events = EventsLog(folder / EVENTS, first_step)

    def write(self, kind: str, step: int, **figures: Any) -> None:
        """Log `figures` of a `kind` ("step", "validation", "sample") at `step`; numbers go to
        TensorBoard too.
        """
        self.file.write(json.dumps({"kind": kind, "step": step} | figures) + "\n")
        self.file.flush()
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.events.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close both."""
        try:
            self.file.close()
        finally:
            self.events.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file; a last line that a kill cut short is left out."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
