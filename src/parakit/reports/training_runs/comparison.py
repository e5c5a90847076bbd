"""Runs next to each other: what each has reached, in which settings they differ, and which is better by how much.

Losses are compared at the end, at the best validation, and after equal tokens, between which validations are interpolated.
Runs that differ in their seed alone are one group, whose spread says how much of a difference is chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.reports.charts import Point
from parakit.reports.training_runs.curves import RunFigures, points_of, run_figures, setting_differences
from parakit.reports.training_runs.finding import (
    MetricsReader,
    TrainingRun,
    find_runs,
    planned_steps,
    run_settings,
)
from parakit.training.metrics import METRICS

LOSS = "validation/loss"
SEED = "plan.seed"


@dataclass(frozen=True)
class LoadedRun:
    """A run with its metrics."""

    run: TrainingRun
    rows: Sequence[JsonObject]
    label: str = ""
    """Its name without what all runs of a comparison have in common."""

    @property
    def figures(self) -> RunFigures:
        """What it has reached."""
        return run_figures(self.rows)

    @property
    def best(self) -> float | None:
        """The lowest validation loss."""
        return min((y for _, y in points_of(self.rows, LOSS)), default=None)

    def to_dict(self) -> JsonObject:
        """Plain JSON values."""
        found, settings = self.figures, run_settings(self.run)
        return {
            "name": self.run.name,
            "folder": str(self.run.folder),
            "state": self.run.state,
            "stage": self.run.stage,
            "step": found.step,
            "planned_steps": planned_steps(self.run),
            "tokens": found.tokens,
            "seconds": found.seconds,
            "tokens_per_second": found.tokens_per_second,
            "loss": found.loss,
            "validation_loss": found.validation_loss,
            "best_validation_loss": self.best,
            "bits_per_byte": found.bits_per_byte,
            "optimizer": settings.get("plan", {}).get("optimizer"),
            "learning_rate": settings.get("plan", {}).get("learning_rate"),
        }


@dataclass(frozen=True)
class RunComparison:
    """Two runs or more; `differences`: the value of each run by setting. Differences of losses are from the first run."""

    runs: list[LoadedRun]
    differences: list[tuple[str, dict[str, str]]]
    common_tokens: float | None
    """Tokens up to which all runs were validated; None where their validations do not overlap."""
    at_common: dict[str, float]
    """Validation loss of each run after so many tokens."""

    @property
    def only_seeds_differ(self) -> bool:
        """Whether the runs are the same but for their seeds."""
        return bool(self.differences) and all(name == SEED for name, _ in self.differences)

    def spread(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the last validation losses; None below two runs."""
        losses = [one.figures.validation_loss for one in self.runs]
        known = [loss for loss in losses if loss is not None]
        return (mean(known), stdev(known)) if len(known) > 1 else None

    def verdicts(self) -> list[str]:
        """Which run is better by how much, in sentences."""
        measures = {
            "at the end": {one.label: one.figures.validation_loss for one in self.runs},
            "at its best": {one.label: one.best for one in self.runs},
        }
        if self.common_tokens is not None:
            measures[f"after {self.common_tokens:,.0f} tokens"] = dict(self.at_common)
        lines = [line for when, values in measures.items() if (line := _verdict(when, values))]
        if self.only_seeds_differ and (spread := self.spread()):
            lines.append(
                f"the runs differ in their seed alone: validation loss {spread[0]:.4f} on average, standard"
                f" deviation {spread[1]:.4f}"
            )
        elif lines:
            lines.append(
                "each is one run: another seed changes a loss too; `parakit build --seeds` measures by how much"
            )
        return lines

    def to_dict(self) -> JsonObject:
        """Plain JSON values."""
        spread = self.spread() if self.only_seeds_differ else None
        return {
            "runs": [one.to_dict() for one in self.runs],
            "differences": [{"setting": name, "values": values} for name, values in self.differences],
            "common_tokens": self.common_tokens,
            "loss_at_common_tokens": self.at_common,
            "verdicts": self.verdicts(),
            **({"mean": spread[0], "standard_deviation": spread[1]} if spread else {}),
        }


def load_runs(root: Path) -> list[LoadedRun]:
    """The runs below `root` with their metrics, newest first."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder", "name a folder with builds or models")
    return [_loaded(run) for run in find_runs(root)]


def choose_runs(names: Sequence[str], root: Path) -> list[LoadedRun]:
    """The runs of these names: as listed for `root`, or paths of model folders, of builds or of checkpoints."""
    known = {run.name.replace(" / ", "/"): run for run in find_runs(root)}
    chosen: dict[str, LoadedRun] = {}
    for name in names:
        found = [known[plain]] if (plain := name.replace(" / ", "/")) in known else _at(Path(name))
        if not found:
            close = closest_match(plain, known)
            raise UserError(
                f"{name}: no run of this name below {root}, and no folder with {METRICS}",
                f"did you mean {close!r}?" if close else "`parakit runs list` names them",
            )
        chosen |= {run.id: _loaded(run) for run in found}
    labels = short_names([one.run.name for one in chosen.values()])
    return [replace(one, label=label) for one, label in zip(chosen.values(), labels, strict=True)]


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the folders at their beginning and end that all of them have."""
    parts = [name.split(" / ") for name in names]
    if len(set(names)) < 2:
        return list(names)
    while len({one[0] for one in parts}) == 1:
        parts = [one[1:] for one in parts]
    while min(map(len, parts)) > 1 and len({one[-1] for one in parts}) == 1:
        parts = [one[:-1] for one in parts]
    return [" / ".join(one) for one in parts]


def compare_runs(runs: Sequence[LoadedRun]) -> RunComparison:
    """What tells `runs`, two or more with different names, apart."""
    if len(runs) < 2:
        raise UserError("one run was named, and a comparison needs two", "name another run")
    settings = {one.label: run_settings(one.run) for one in runs}
    curves = {one.label: points_of(one.rows, LOSS, "tokens") for one in runs}
    common, at_common = None, {}
    if all(curves.values()):
        low = max(points[0][0] for points in curves.values())
        high = min(points[-1][0] for points in curves.values())
        if high >= low:
            common = high
            at_common = {name: interpolated(points, high) for name, points in curves.items()}
    return RunComparison(list(runs), setting_differences(settings), common, at_common)


def interpolated(points: Sequence[Point], x: float) -> float:
    """The value at `x`, between the first and the last point."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[0][1] if x <= points[0][0] else points[-1][1]


def _verdict(when: str, values: Mapping[str, Any]) -> str:
    """The best of the runs, and by how much each other is worse."""
    known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    if len(known) < 2:
        return ""
    best = min(known, key=lambda name: known[name])
    others = "; ".join(
        f"{name} {value:.4f} ({value - known[best]:+.4f}, {value / known[best] - 1:+.1%})"
        if known[best] > 0
        else f"{name} {value:.4f} ({value - known[best]:+.4f})"
        for name, value in known.items()
        if name != best
    )
    return f"validation loss {when}: {best} is lowest with {known[best]:.4f}; {others}"


def _loaded(run: TrainingRun) -> LoadedRun:
    return LoadedRun(run, MetricsReader(run.metrics).read(), run.name)


def _at(path: Path) -> list[TrainingRun]:
    """The runs in a folder that a path names: a model's, its checkpoints', or all of a build."""
    path = path.parent if path.name == METRICS else path
    if not path.is_dir():
        return []
    absolute = path.resolve()
    found = find_runs(absolute.parent)
    inside = [run for run in found if absolute in (run.folder.resolve(), run.metrics.parent.resolve())]
    if inside or (absolute / LINEAGE).is_file():
        return inside
    return [run for run in found if absolute in run.metrics.resolve().parents]
