"""Metrics of a run: JSON lines that outlive a crash, and TensorBoard events beside them.

One line a step, flushed at once. After a resume, lines beyond the resumed step are cut away, so that every
step stands exactly once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parakit.common.files import write_text_atomic


class MetricsLog:
    """Appends to `folder/metrics.jsonl` and to event files in `folder/tensorboard`."""

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            kept = [row for row in read_metrics(self.path) if row["step"] <= first_step]
            write_text_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1, flush_secs=5)

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
        self.file.close()
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
