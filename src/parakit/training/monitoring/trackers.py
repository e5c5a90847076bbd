"""Metrics of a run to trackio or to Weights & Biases, as they are logged.

`metrics.jsonl` and the TensorBoard files are written in any case. trackio keeps its runs on this machine. Weights & Biases
sends them where a key is set (`wandb login`, WANDB_API_KEY), and else keeps them in the folder `wandb` for
`wandb sync`; WANDB_MODE and its other variables are its own. A resumed run goes on under the same name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from parakit.common.errors import UserError
from parakit.training.monitoring.settings import TrackerName
from parakit.training.plan import TrainingPlan

PROJECT = "parakit"  # unless PARAKIT_PROJECT names another
LIBRARIES = ("trackio", "wandb")


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Numbers of a step, by name."""
        ...

    def close(self) -> None:
        """The run has ended."""
        ...


def check_tracker(name: TrackerName) -> None:
    """`UserError` where the library of a tracker is not installed."""
    if name in LIBRARIES and importlib.util.find_spec(name) is None:
        raise UserError(
            f"tracker: {name} is not installed",
            f"pip install {name} (parakit[track] has both), or keep tensorboard",
        )


def open_tracker(name: TrackerName, run_dir: Path, plan: TrainingPlan) -> Tracker | None:
    """The tracker `name` for the run in `run_dir`, under `plan`; None for tensorboard alone."""
    if name not in LIBRARIES:
        return None
    check_tracker(name)
    project = os.environ.get("PARAKIT_PROJECT", PROJECT)
    title = f"{run_dir.parent.name.strip('.').removesuffix('.work')}-{run_dir.name[:6]}"
    if name == "trackio":
        import trackio

        run = trackio.init(project=project, name=title, config=plan.model_dump(mode="json"), resume="allow")
    else:
        import wandb

        offline = not (os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") or _has_login())
        run = wandb.init(
            project=project,
            name=title,
            id=run_dir.name,
            resume="allow",
            config=plan.model_dump(mode="json"),
            mode="offline" if offline else None,
        )
    return _Run(run)


def _has_login() -> bool:
    """Whether `wandb login` has stored a key."""
    with contextlib.suppress(OSError):
        return "api.wandb.ai" in Path("~/.netrc").expanduser().read_text(encoding="utf-8")
    return False


class _Run:
    """A run of either library: their objects have the same methods."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self.run.log(dict(figures), step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self.run.finish()
