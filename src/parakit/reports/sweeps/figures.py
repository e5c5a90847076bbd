"""The figures of a sweep's runs, and over the seeds of each setting their mean with its interval.

The interval is that of the mean (Student's t over the runs), not the one in which a further run falls, which
`evaluation.comparison.seed_spread` gives. It holds what the seed changes: weights, order of the data, samples. The noise of
the evaluation's items is the same in all runs, and is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parakit.common.files import JsonObject
from parakit.evaluation.intervals import mean_interval
from parakit.reports.formatting import humanize, model_stages
from parakit.reports.summary_schema import BuildSummary, TrainingSummary
from parakit.reports.tasks import main_metric, metric_name

SHARE = "share"
SHARES = (  # what the names of metrics begin with that are shares of 1
    *("acc", "exact_match", "pass", "f1", "right", "correct", "first", "found", "strict", "instruction"),
    *("extracted", "over_refusal", "stereotype"),
)
STAGE_METRICS = ("accuracy", "reward", "kl")


@dataclass(frozen=True, order=True)
class Figure:
    """Something measured of a run's model. `unit`: share (of 1), bits per byte, nats per token, points or number."""

    name: str
    model: str
    unit: str

    @property
    def title(self) -> str:
        """In words, as a table's heading."""
        return f"{self.name} ({self.model})" if self.model else self.name


@dataclass(frozen=True)
class RunResult:
    """A run of the sweep and its figures; `setting`: the number of its setting. A run that failed has none."""

    name: str
    setting: int
    seed: int
    status: str
    message: str = ""
    seconds: float | None = None
    parameters: int | None = None
    figures: Mapping[Figure, float] = field(default_factory=dict)
    headlines: Sequence[Figure] = ()
    chance: Mapping[Figure, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mean:
    """Over the seeds of a setting: the mean, and its 95 % interval where there are two or more."""

    n: int
    mean: float
    low: float
    high: float

    @property
    def half(self) -> float | None:
        """Half the width of the interval; None where there is none."""
        return self.high - self.mean if math.isfinite(self.high) else None


@dataclass(frozen=True)
class SweepResults:
    """All figures of a sweep. `varied`: the keys; `settings`: the values of each, in order; `labels`: in words."""

    name: str
    varied: Sequence[str]
    settings: Sequence[Mapping[str, Any]]
    labels: Sequence[str]
    seeds: Sequence[int]
    runs: Sequence[RunResult]

    @property
    def figures(self) -> list[Figure]:
        """Every figure that some run has, in the order of the runs' reports."""
        return list(dict.fromkeys(figure for run in self.runs for figure in run.figures))

    @property
    def headlines(self) -> list[Figure]:
        """The few that a reader wants first."""
        return (
            list(dict.fromkeys(figure for run in self.runs for figure in run.headlines)) or self.figures[:4]
        )

    def of(self, setting: int, figure: Figure) -> dict[int, float]:
        """The values of a figure by seed."""
        return {
            run.seed: run.figures[figure]
            for run in self.runs
            if run.setting == setting and figure in run.figures
        }

    def mean(self, setting: int, figure: Figure) -> Mean | None:
        """Over the seeds; None where no run has the figure."""
        values = list(self.of(setting, figure).values())
        if not values:
            return None
        found = mean_interval(values)
        return Mean(len(values), found.value, found.low, found.high)

    def parameters(self, setting: int) -> float | None:
        """Of the setting's models, the mean over the runs."""
        counts = [run.parameters for run in self.runs if run.setting == setting and run.parameters]
        return sum(counts) / len(counts) if counts else None

    def to_dict(self) -> JsonObject:
        """As plain data."""
        rows = []
        for setting, values in enumerate(self.settings):
            for figure in self.figures:
                if (found := self.mean(setting, figure)) is None:
                    continue
                interval = None if found.half is None else [found.low, found.high]
                rows.append(
                    {
                        **{"values": dict(values), "figure": figure.name, "model": figure.model},
                        **{"unit": figure.unit, "n": found.n, "mean": found.mean, "interval": interval},
                        "by_seed": {str(seed): value for seed, value in self.of(setting, figure).items()},
                    }
                )
        names = ("name", "seed", "status", "message", "seconds", "parameters")
        runs = [
            {name: getattr(run, name) for name in names} | {"values": dict(self.settings[run.setting])}
            for run in self.runs
        ]
        return {
            **{"name": self.name, "varied": list(self.varied), "seeds": list(self.seeds)},
            **{"headlines": [figure.title for figure in self.headlines], "figures": rows, "runs": runs},
        }


def run_figures(summary: BuildSummary) -> tuple[dict[Figure, float], list[Figure], dict[Figure, float]]:
    """All figures of a build, those that come first, and the scores of guessing."""
    found: dict[Figure, float] = {}
    first: list[Figure] = []
    stages = model_stages(summary)
    last = list(stages)[-1] if stages else ""
    for role, stage in stages.items():
        figures = summary.training(stage)
        if figures is not None:
            found |= _of_training(role, figures)
    base = [figure for figure in found if figure.unit == "bits per byte"]
    first += base[:1]
    for role, value in summary.suite_mean.items():
        found[Figure("mean of the suites", role, SHARE)] = value
        first += [Figure("mean of the suites", role, SHARE)] if role == last else []
    if summary.task and (main := main_metric(summary)):
        for metric in summary.task.figures:
            if metric.value is not None:
                figure = Figure(metric_name(metric), "tuned", metric.unit)
                found[figure] = metric.value
                first += [figure] if metric is main else []
    for name, results in summary.benchmarks.items():
        for role, result in results.items():
            unit = SHARE if result.metric.startswith(SHARES) else "number"
            figure = Figure(f"{name}: {result.metric}", role, unit)
            found[figure] = result.value
            first += [figure] if role == last else []
    for row in summary.evaluations:
        if row.bits_per_byte is not None:
            figure = Figure(f"bits per byte of {row.name}", row.model, "bits per byte")
            found[figure] = row.bits_per_byte
            first += [figure] if row.model == last else []
    chance: dict[Figure, float] = {}
    for suite, by_role in summary.suites.items():
        for role, answered in by_role.items():
            figure = Figure(humanize(suite), role, SHARE)
            found[figure] = answered.accuracy
            if suite in summary.chance:
                chance[figure] = summary.chance[suite]
    return found, first, chance


def _of_training(role: str, figures: TrainingSummary) -> dict[Figure, float]:
    """What the last validation of a stage measured."""
    found = {}
    if figures.bits_per_byte is not None:
        found[Figure("bits per byte", role, "bits per byte")] = figures.bits_per_byte
    if figures.loss is not None:
        found[Figure("validation loss", role, figures.loss_unit)] = figures.loss
    for name in STAGE_METRICS:
        if (value := figures.metric(name)) is not None:
            found[Figure(f"validation {name}", role, SHARE if name == "accuracy" else "number")] = value
    return found
