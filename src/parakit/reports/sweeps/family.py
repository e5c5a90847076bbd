"""Pictures of a family of models: scores against parameters, and against the number of shots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import write_text_atomic
from parakit.common.formatting import compact
from parakit.evaluation.family import FamilyScore
from parakit.reports.point_plot import PlottedPoint, PointPlot, Series, draw_points


def write_family_pictures(scores: Sequence[FamilyScore], path: Path) -> list[Path]:
    """Write the picture against parameters, or against shots where only they vary, to `path` (.svg). Where both vary, that
    against shots is a second file, `NAME-shots.svg`. Returns the files.
    """
    if path.suffix != ".svg":
        raise UserError(f"{path}: a picture is an SVG file", "name it FILE.svg")
    by_size = len({one.parameters for one in scores}) > 1
    by_shots = len({one.n_shots for one in scores}) > 1
    files = [path, path.with_name(f"{path.stem}-shots.svg")] if by_size and by_shots else [path]
    plots = [against_parameters(scores)] * by_size + [against_shots(scores)] * by_shots
    for file, plot in zip(files, plots, strict=True):
        write_text_atomic(file, draw_points(plot))
    return files


def against_parameters(scores: Sequence[FamilyScore]) -> PointPlot:
    """A line for each benchmark, and for each number of shots."""
    shots = len({one.n_shots for one in scores}) > 1
    lines: dict[str, list[FamilyScore]] = {}
    for one in scores:
        lines.setdefault(f"{one.benchmark}, {one.n_shots} shots" if shots else one.benchmark, []).append(one)
    points = {label: [(float(one.parameters), one) for one in line] for label, line in lines.items()}
    return _plot("Scores by model size", "parameters", points)


def against_shots(scores: Sequence[FamilyScore]) -> PointPlot:
    """A line for each benchmark, and for each size."""
    sizes = len({one.parameters for one in scores}) > 1
    lines: dict[str, list[FamilyScore]] = {}
    for one in scores:
        size = f", {compact(one.parameters)}" if sizes else ""
        lines.setdefault(one.benchmark + size, []).append(one)
    points = {
        label: [(float(one.n_shots), one) for one in line] for label, line in lines.items() if len(line) > 1
    }
    return _plot("Scores by number of shots", "shots", points)


def _plot(title: str, x_label: str, lines: dict[str, list[tuple[float, FamilyScore]]]) -> PointPlot:
    every = [one for line in lines.values() for _, one in line]
    return PointPlot(
        title,
        x_label,
        "score, 95 % interval",
        [
            Series(
                label.replace("_", " "),
                [PlottedPoint(x, one.value, one.low, one.high) for x, one in line],
                next((one.chance for _, one in line if one.chance is not None), None),
            )
            for label, line in lines.items()
        ],
        percent=all(one.is_share for one in every),
    )
