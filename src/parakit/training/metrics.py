"""Metrics of a run: JSON lines that survive a crash, and TensorBoard events.

One line per step, flushed at once. A checkpoint records the length and the sha256 of the log at that moment; a resumed run
checks the log and cuts it back to there, so that every line occurs exactly once. Events are written in the same thread:
tensorboardX's writer has a thread of its own, and when a full disk ends it, training waits for it forever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from parakit.common.errors import CorruptArtifact
from parakit.common.files import JsonObject, writing_file
from parakit.common.formatting import is_number
from parakit.common.processes import is_first
from parakit.common.progress import log

if TYPE_CHECKING:
    from parakit.training.loop import StepRecord
    from parakit.training.monitoring.trackers import Tracker

METRICS, EVENTS = "metrics.jsonl", "tensorboard"
LOST = "lost"  # the kind of a row in place of the metrics of all steps up to its own
SAMPLE = "sample"  # the kind of a row with what the model wrote at its step
MAX_SAMPLED_POINTS = 6
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
    """Appends to `folder/metrics.jsonl` and to event files in `folder/tensorboard`. `recorded`: the `state` of the log at
    the checkpoint that the run resumes from; None: lines beyond `first_step` are removed. `tracker` opens a further place
    for the numbers. Of several processes the first logs.
    """

    def __init__(
        self,
        folder: Path,
        first_step: int = 0,
        recorded: JsonObject | None = None,
        tracker: Callable[[], Tracker | None] = lambda: None,
    ) -> None:
        self.n_bytes, self.sha256 = 0, hashlib.sha256()
        self.is_open = is_first()
        if not self.is_open:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS
        content, lost = b"", False
        if first_step and recorded is not None:
            content, lost = _recorded_content(self.path, first_step, recorded)
        elif first_step and self.path.exists():
            rows = [row for row in read_metrics(self.path) if row["step"] <= first_step]
            content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if self.path.exists():
            with writing_file(self.path) as file:
                file.write(content)
        self.n_bytes, self.sha256 = len(content), hashlib.sha256(content)
        self.file = self.path.open("ab")
        self.events, self.tracker = EventsLog(folder / EVENTS, first_step), tracker()
        if lost:
            self.write(LOST, first_step)

    def state(self) -> JsonObject:
        """Length and sha256 of what has been logged."""
        return {"n_bytes": self.n_bytes, "sha256": self.sha256.hexdigest()}

    def write(self, kind: str, step: int, **figures: Any) -> None:
        """Log `figures` of a `kind` ("step", "validation", "sample") at `step`; numbers go to
        TensorBoard too.
        """
        if not self.is_open:
            return
        line = (json.dumps({"kind": kind, "step": step} | figures) + "\n").encode()
        self.file.write(line)
        self.file.flush()
        self.n_bytes += len(line)
        self.sha256.update(line)
        numbers = {f"{kind}/{name}": float(value) for name, value in figures.items() if is_number(value)}
        for name, value in numbers.items():
            self.events.add_scalar(name, value, step)
        if self.tracker and numbers:
            self.tracker.log(numbers, step)

    def write_step(self, record: StepRecord, step_metrics: Mapping[str, float]) -> None:
        """Log a step and the metrics of its task; a skipped step has no loss."""
        self.write(
            "step",
            record.step,
            loss=None if record.skipped else record.loss,
            learning_rate=record.learning_rate,
            grad_norm=record.grad_norm if not record.skipped else None,
            tokens=record.n_tokens,
            seconds=record.seconds,
            tokens_per_second=record.n_tokens / record.seconds,
            skipped=record.skipped,
            **step_metrics,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after an error, failing to close must not hide it."""
        with contextlib.suppress(*((OSError,) if kind else ())):
            self.close()

    def close(self) -> None:
        """Flush and close both."""
        if not self.is_open:
            return
        with contextlib.ExitStack() as stack:
            if self.tracker:
                stack.callback(self.tracker.close)
            stack.callback(self.events.close)
            self.file.close()


def _recorded_content(path: Path, first_step: int, recorded: JsonObject) -> tuple[bytes, bool]:
    """What `path` held at the checkpoint after `first_step` steps, and whether it is lost: the file may have been removed,
    because the weights do not depend on it.
    """
    if not path.exists() and recorded["n_bytes"]:
        log(f"{path}: is missing: the metrics of the first {first_step} steps are lost")
        return b"", True
    content = path.read_bytes()[: recorded["n_bytes"]] if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != recorded["sha256"]:
        raise CorruptArtifact(
            f"{path}: has changed since the checkpoint after step {first_step} was written (sha256 differs)",
            "restore it, or delete it: the run then resumes without the metrics of its first steps",
        )
    return content, False


def read_metrics(path: str | Path) -> list[JsonObject]:
    """All lines of a metrics file but a last one that a kill truncated. `CorruptArtifact` names a damaged line."""
    *lines, _ = Path(path).read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["kind"], row["step"]
        except (ValueError, TypeError, KeyError):
            raise CorruptArtifact(
                f"{path}: line {number} is damaged",
                "restore the file, or delete it to go without these metrics",
            ) from None
        rows.append(row)
    return rows


def step_summary(run_dir: Path) -> JsonObject:
    """Tokens, skipped steps and the median speed of a run, and how many of its first steps the log has lost."""
    rows = read_metrics(run_dir / METRICS)
    steps, lost = ([row for row in rows if row["kind"] == kind] for kind in ("step", LOST))
    rates = sorted(row["tokens_per_second"] for row in steps)
    return {
        "tokens": sum(row["tokens"] for row in steps),
        "skipped_steps": sum(row["skipped"] for row in steps),
        "tokens_per_second": rates[len(rates) // 2] if rates else 0.0,
        **({"unlogged_steps": lost[-1]["step"]} if lost else {}),
    }


def chart_rows(run_dir: Path, max_rows: int = 400) -> dict[str, list[JsonObject]]:
    """Metrics for the report: at most `max_rows` step rows with cumulative tokens, every validation, and what the model
    wrote at a few points of the run.
    """
    n_tokens = 0
    rows: dict[str, list[JsonObject]] = {"step": [], "validation": [], SAMPLE: []}
    for row in read_metrics(run_dir / METRICS):
        n_tokens += row["tokens"] if row["kind"] == "step" else 0
        if row["kind"] in rows:
            rows[row["kind"]].append(row | {"tokens": n_tokens})
    steps = rows["step"]
    every = max(1, -(-len(steps) // max_rows))
    found = {"metrics": steps[::every], "validations": rows["validation"]}
    sampled = [{key: row[key] for key in ("step", "tokens", "samples")} for row in _few_points(rows[SAMPLE])]
    return found | ({"samples_by_step": sampled} if sampled else {})


def _few_points(rows: list[JsonObject]) -> list[JsonObject]:
    """The first row, the last, and those between at about equal ratios of their steps: a model changes fastest at first."""
    if len(rows) <= MAX_SAMPLED_POINTS:
        return rows
    first, last = rows[0]["step"], rows[-1]["step"]
    wanted = [first * (last / first) ** (i / (MAX_SAMPLED_POINTS - 1)) for i in range(MAX_SAMPLED_POINTS)]
    chosen = {min(range(len(rows)), key=lambda i: abs(rows[i]["step"] - step)) for step in wanted}
    return [rows[i] for i in sorted(chosen)]
