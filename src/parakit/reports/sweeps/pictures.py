"""Pictures of a sweep: each of the main figures against the values of a setting, with intervals over the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.common.formatting import is_number, short_keys
from parakit.reports.point_plot import PlottedPoint, PointPlot, Series
from parakit.reports.sweeps.figures import SHARE, Figure, SweepResults
from parakit.reports.sweeps.tables import plain_name

SIZE = "size"  # drawn by the parameters that the models have


def pictures(results: SweepResults) -> dict[str, PointPlot]:
    """Pictures by file name, one for each main figure; none where nothing is varied."""
    if not results.varied:
        return {}
    axis = _axis(results)
    drawn = {}
    for figure in results.headlines:
        plot = picture(results, figure, axis)
        name = "-".join(word for word in (figure.name, figure.model) if word)
        drawn[f"{plain_name(name.lower())}.svg"] = plot
    return drawn


def picture(results: SweepResults, figure: Figure, axis: str) -> PointPlot:
    """A figure against the values of the key `axis`; a line for each combination of the other keys' values."""
    others = [key for key in results.varied if key != axis]
    short = short_keys(results.varied)
    lines: dict[str, list[PlottedPoint]] = {}
    words = _words(results, axis)
    for setting, values in enumerate(results.settings):
        found = results.mean(setting, figure)
        if found is not None:
            label = ", ".join(f"{short[key]} {values[key]}" for key in others)
            place = float(words.index(str(values[axis]))) if words else _place(results, setting, values, axis)
            lines.setdefault(label, []).append(PlottedPoint(place, found.mean, found.low, found.high))
    guess = next((run.chance[figure] for run in results.runs if figure in run.chance), None)
    n = len(results.seeds)
    return PointPlot(
        title=f"{results.name}: {figure.title}",
        x_label="parameters" if axis == SIZE and not words else axis,
        y_label=f"mean of {n} seeds, 95 % interval" if n > 1 else "one seed",
        series=[Series(label, points, guess) for label, points in lines.items()],
        words=words,
        percent=figure.unit == SHARE,
    )


def _axis(results: SweepResults) -> str:
    """The key with the most values, of those that are numbers where there are some."""
    numeric = [key for key in results.varied if not _words(results, key)]
    return max(
        numeric or results.varied, key=lambda key: len({str(values[key]) for values in results.settings})
    )


def _words(results: SweepResults, key: str) -> list[str]:
    """The values of a key where they are no numbers; of sizes only where the models' parameters are unknown."""
    values = [values[key] for values in results.settings]
    if key == SIZE and all(results.parameters(setting) for setting in range(len(results.settings))):
        return []
    return [] if all(is_number(value) for value in values) else list(dict.fromkeys(map(str, values)))


def _place(results: SweepResults, setting: int, values: Mapping[str, Any], axis: str) -> float:
    return float(results.parameters(setting) or 0) if axis == SIZE else float(values[axis])
