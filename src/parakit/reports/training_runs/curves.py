"""Curves of runs: which metrics there are, points by step, tokens or time, smoothing, thinning, and a table of runs.

Smoothing is the exponential moving average of TensorBoard with the correction for its start (Kingma and Ba 2015, section 3):
weight 0 leaves a curve as it is. Long curves keep of every stretch of steps the lowest and the highest point, so that a spike
stays visible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from parakit.common.files import JsonObject
from parakit.common.formatting import is_number
from parakit.reports.charts import Point

Axis = Literal["step", "tokens", "seconds"]

AXES: dict[Axis, str] = {"step": "step", "tokens": "tokens", "seconds": "seconds of training"}
MAX_POINTS = 800
TITLES = {
    "step/loss": "Loss",
    "validation/loss": "Validation loss",
    "step/learning_rate": "Learning rate",
    "step/grad_norm": "Gradient norm",
    "step/tokens_per_second": "Tokens a second",
    "step/reward": "Reward",
    "validation/reward": "Reward, validation",
    "step/kl": "KL to the reference",
    "validation/kl": "KL to the reference, validation",
    "step/accuracy": "Accuracy of pairs",
    "validation/accuracy": "Accuracy of pairs, validation",
    "validation/bits_per_byte": "Bits per byte, validation",
}
HIDDEN = {"step/seconds", "step/tokens", "step/skipped"}


def metric_names(rows: Sequence[JsonObject]) -> list[str]:
    """The metrics that the rows have, as `step/loss`: those with a title first, in the order of `TITLES`."""
    found: dict[str, None] = {}
    for row in rows:
        for key, value in row.items():
            if key not in ("kind", "step") and is_number(value):
                found.setdefault(f"{row['kind']}/{key}")
    named = [name for name in TITLES if name in found]
    return [*named, *(name for name in found if name not in TITLES and name not in HIDDEN)]


def metric_title(name: str) -> str:
    """The metric in words."""
    kind, _, key = name.partition("/")
    plain = key.replace("_", " ").capitalize()
    return TITLES.get(name) or (plain if kind == "step" else f"{plain}, {kind}")


def points_of(rows: Sequence[JsonObject], name: str, axis: Axis = "step") -> list[Point]:
    """The points of a metric; steps that have no value are left out. Tokens and seconds are counted from the run's start."""
    kind, _, key = name.partition("/")
    tokens = seconds = 0.0
    points = []
    for row in rows:
        if row["kind"] == "step":
            tokens += row.get("tokens") or 0
            seconds += row.get("seconds") or 0.0
        value = row.get(key)
        if row["kind"] == kind and is_number(value) and math.isfinite(value):
            at = {"step": float(row["step"]), "tokens": tokens, "seconds": seconds}[axis]
            points.append((at, float(value)))
    return points


def smoothed(points: Sequence[Point], weight: float) -> list[Point]:
    """The exponential moving average with `weight` (0 to below 1) on what came before."""
    if weight <= 0:
        return list(points)
    total, norm, result = 0.0, 0.0, []
    for x, y in points:
        total = weight * total + (1 - weight) * y
        norm = weight * norm + (1 - weight)
        result.append((x, total / norm))
    return result


def thinned(points: Sequence[Point], max_points: int = MAX_POINTS) -> list[Point]:
    """At most `max_points` points: of equal stretches the lowest and the highest, and the two ends."""
    if len(points) <= max_points:
        return list(points)
    n_parts = max(1, (max_points - 2) // 2)
    kept = {0, len(points) - 1}
    for part in range(n_parts):
        stretch = range(part * len(points) // n_parts, (part + 1) * len(points) // n_parts)
        kept |= {min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept)]


@dataclass(frozen=True)
class RunFigures:
    """What a run has reached."""

    step: int
    tokens: int
    seconds: float
    loss: float | None
    validation_loss: float | None
    bits_per_byte: float | None
    tokens_per_second: float | None
    """Median of the last hundred steps."""


def run_figures(rows: Sequence[JsonObject]) -> RunFigures:
    """The last values of a run's metrics."""
    steps = [row for row in rows if row["kind"] == "step"]
    validations = [row for row in rows if row["kind"] == "validation"]
    rates = sorted(
        row["tokens_per_second"] for row in steps[-100:] if is_number(row.get("tokens_per_second"))
    )
    return RunFigures(
        step=int(steps[-1]["step"]) if steps else 0,
        tokens=sum(row.get("tokens") or 0 for row in steps),
        seconds=sum(row.get("seconds") or 0.0 for row in steps),
        loss=_last(steps, "loss"),
        validation_loss=_last(validations, "loss"),
        bits_per_byte=_last(validations, "bits_per_byte"),
        tokens_per_second=rates[len(rates) // 2] if rates else None,
    )


def _last(rows: Sequence[JsonObject], key: str) -> float | None:
    return next((float(row[key]) for row in reversed(rows) if is_number(row.get(key))), None)


def samples_of(rows: Sequence[JsonObject]) -> list[tuple[int, list[JsonObject]]]:
    """What the model wrote at its steps: (step, [{"prompt", "text"}])."""
    found = []
    for row in rows:
        if row["kind"] == "sample" and isinstance(row.get("samples"), list):
            found.append((int(row["step"]), [one for one in row["samples"] if isinstance(one, dict)]))
    return found


def setting_differences(settings: Mapping[str, JsonObject]) -> list[tuple[str, dict[str, str]]]:
    """The settings in which runs differ, by dotted name: the value of each run as text, "" where it has none."""
    flat = {run: dict(_flat(groups)) for run, groups in settings.items()}
    names = dict.fromkeys(name for values in flat.values() for name in values)
    rows = []
    for name in names:
        values = {run: flat[run].get(name, "") for run in flat}
        if len(set(values.values())) > 1:
            rows.append((name, values))
    return rows


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [
            pair for key, inner in value.items() for pair in _flat(inner, f"{path}.{key}" if path else key)
        ]
    shown = "not set" if value is None else str(value)
    return [(path, shown if len(shown) <= 80 else shown[:79] + "…")]
