"""The geometry of the report's charts, in numbers; the page's template draws it.

A curve is a polyline in a box of 1000 x 1000 that the page stretches to any width; ticks and labels have positions in
percent, so that letters keep their size on a phone. Nothing here writes markup, and nothing in the template is marked as
safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.common.formatting import compact, is_number, long_duration, percent
from parakit.reports.formatting import humanize, roles
from parakit.reports.summary_parts import SuiteSummary
from parakit.reports.summary_schema import BuildSummary, LineageEntry, TrainingSummary

MAX_POINTS = 300
EARLY = 0.2  # of a run: what is before it does not stretch the axis of its loss
HIDDEN = 2.0  # times the range of the rest of the run: from here on its beginning hides it
ALIGNMENT_METRICS = (  # of steps and validations: key, title, unit
    ("accuracy", "Pair accuracy", "share of pairs with a positive margin"),
    ("reward", "Reward", "mean of the answers"),
    ("kl", "KL to the reference", "nats per answer"),
)
BOX = (143, 66)  # pixels of a lineage box
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One line of a plot: `path` and `band` are SVG path data, `style` names how it is drawn, `end` (per cent
    from the top) places its label.
    """

    path: str
    style: str
    label: str
    band: str = ""
    dots: str = ""
    end: float | None = None
    value: str = ""


@dataclass(frozen=True)
class Plot:
    """A plot: ticks are (per cent, label) from the top and from the left."""

    title: str
    unit: str
    curves: list[Curve]
    y_ticks: list[tuple[float, str]]
    x_ticks: list[tuple[float, str]]
    x_label: str


@dataclass(frozen=True)
class SuiteBar:
    """One model's result on a suite; numbers are per cent of the full width."""

    role: str
    accuracy: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class SuiteRow:
    """A suite's bars, and the accuracy of guessing."""

    name: str
    bars: list[SuiteBar]
    chance: float | None


@dataclass(frozen=True)
class Slice:
    """A piece of a bar that adds up to a whole; `start` and `share` in per cent."""

    name: str
    start: float
    share: float
    text: str


@dataclass
class Node:
    """An artifact of the lineage drawing, in pixels; `line` has its kind and the time it took."""

    stage: str
    kind: str
    digest: str
    line: str
    layer: int = 0
    x: int = 0
    y: int = 0


@dataclass(frozen=True)
class Drawing:
    """The lineage: boxes and the paths between them."""

    nodes: list[Node]
    edges: list[str]
    width: int
    height: int


def suite_rows(summary: BuildSummary) -> list[SuiteRow]:
    """The suites in the summary's order, each with a bar per model."""
    rows = []
    for name, results in summary.suites.items():
        bars = [suite_bar(role, results[role]) for role in roles(summary) if role in results]
        chance = summary.chance.get(name)
        rows.append(SuiteRow(humanize(name), bars, None if chance is None else _share(chance)))
    return rows


def suite_bar(role: str, result: SuiteSummary) -> SuiteBar:
    """The bar of one model's accuracy."""
    low = result.accuracy if result.low is None else result.low
    high = result.accuracy if result.high is None else result.high
    text = f"{percent(result.accuracy)}, 95 % between {percent(low)} and {percent(high)}"
    return SuiteBar(role, _share(result.accuracy), _share(low), _share(high), text)


def training_plots(figures: TrainingSummary) -> list[Plot]:
    """Loss, alignment metrics, learning rate and throughput of one training stage; plots without points are left out."""
    metrics, validations = figures.metrics, figures.validations
    loss = [
        ("training", "train", _points(metrics, "loss")),
        ("validation", "validation", _points(validations, "loss")),
    ]
    rate = [("", "plain", _points(metrics, "learning_rate"))]
    speed = [("", "plain", _points(metrics, "tokens_per_second"))]
    plots = [
        *loss_plots(figures.loss_unit, loss),
        *(
            _plot(
                title,
                unit,
                [
                    ("training", "train", _points(metrics, key)),
                    ("validation", "validation", _points(validations, key)),
                ],
                _decimal,
            )
            for key, title, unit in ALIGNMENT_METRICS
        ),
        _plot("Learning rate", "", rate, _plain, n_ticks=2, from_zero=True),
        _plot("Throughput", "tokens per second", speed, _round, n_ticks=2, from_zero=True),
    ]
    return [plot for plot in plots if plot]


def loss_plots(unit: str, series: list[tuple[str, str, list[Point]]]) -> list[Plot | None]:
    """The loss where it still moves, and where its beginning hides that, the whole run over a logarithmic axis.

    A new model's loss falls within the first steps to a fraction of its start; on one axis with these, the rest of the run
    is a flat line. So the first plot's axis fits what comes behind the first `EARLY` of the run.
    """
    points = [point for _, _, found in series for point in found]
    end = max((x for x, _ in points), default=0.0)
    late = [y for x, y in points if x >= EARLY * end]
    whole = max((y for _, y in points), default=0.0) - min((y for _, y in points), default=0.0)
    if not late or whole <= HIDDEN * (max(late) - min(late)):
        return [_plot("Loss", unit, series, _decimal)]
    low, high = min(late), max(late) + (max(late) - min(late)) / 4
    shown = [(label, style, _below(found, high)) for label, style, found in series]
    first = _plot("Loss", unit, shown, _decimal, limits=(low, high))
    return [first, _plot("Loss, whole run", unit, series, _decimal, n_ticks=2, log_x=True)]


def _below(points: list[Point], limit: float) -> list[Point]:
    """The points behind the last of the beginning that is above `limit`; later ones above it are drawn at it."""
    start = next((i for i, (_, y) in enumerate(points) if y <= limit), len(points))
    return [(x, min(y, limit)) for x, y in points[start:]]


def time_slices(summary: BuildSummary) -> list[Slice]:
    """The build's time by stage."""
    spent = {
        humanize(name): figures.seconds
        for name, figures in summary.stages.items()
        if figures.seconds is not None
    }
    return slices(spent, long_duration)


def slices(amounts: Mapping[str, float], write: Callable[[Any], str]) -> list[Slice]:
    """Pieces of a whole bar, in the given order."""
    total = sum(amounts.values())
    reached, pieces = 0.0, []
    for name, amount in amounts.items():
        share = 100 * amount / total if total > 0 else 0.0
        pieces.append(Slice(name, round(reached, 3), round(share, 3), write(amount)))
        reached += share
    return pieces


def lineage_drawing(entries: Sequence[LineageEntry]) -> Drawing | None:
    """Parents left, children right; a box is never left of one that it was made from."""
    if not entries:
        return None
    width, height = BOX
    nodes = {entry.digest: _node(entry) for entry in entries}
    parents = {entry.digest: [digest for digest in entry.parents if digest in nodes] for entry in entries}
    for _ in nodes:  # longest path: as many rounds as nodes, so a cycle ends too
        for digest, node in nodes.items():
            node.layer = max([node.layer, *(nodes[p].layer + 1 for p in parents[digest] if p != digest)])
            node.layer = min(node.layer, len(nodes))
    for digest, node in nodes.items():  # a node without parents is placed one layer before its first child
        children = [nodes[d].layer for d in nodes if digest in parents[d]]
        if not parents[digest] and children:
            node.layer = max(min(children) - 1, 0)
    rows: dict[int, int] = {}
    for node in nodes.values():
        row = rows[node.layer] = rows.get(node.layer, -1) + 1
        node.x, node.y = node.layer * (width + 12) + 1, row * (height + 26) + 1
    edges = [_edge(nodes[p], nodes[d], width, height) for d in nodes for p in parents[d]]
    right = max(node.x for node in nodes.values()) + width + 1
    bottom = (
        max(node.y for node in nodes.values()) + height + (22 if len(rows) and max(rows.values()) == 0 else 1)
    )
    return Drawing(list(nodes.values()), edges, right, bottom)


def _node(entry: LineageEntry) -> Node:
    name = humanize(entry.stage)
    parts = [
        entry.kind if entry.kind != name else "",
        "" if entry.seconds is None else long_duration(entry.seconds),
    ]
    return Node(name, entry.kind, entry.digest[:10], " · ".join(part for part in parts if part))


def _edge(parent: Node, child: Node, width: int, height: int) -> str:
    """From the right side to the left side; around a box in between."""
    if child.layer - parent.layer > 1 and child.y == parent.y:
        x1, x2, y = parent.x + width // 2, child.x + width // 3, parent.y + height
        low = y + (17 if parent.layer % 2 else 9)  # so that neighbours' paths do not overlap
        return f"M{x1} {y} Q{x1} {low} {x1 + 9} {low} H{x2 - 9} Q{x2} {low} {x2} {y + 1}"
    x1, y1, x2, y2 = parent.x + width, parent.y + height // 2, child.x, child.y + height // 2
    if child.layer - parent.layer > 1 and child.y < parent.y:  # along the lower row, then up
        x2 += width // 5
        return f"M{x1} {y1} H{x2 - 12} Q{x2} {y1} {x2} {y1 - 12} V{child.y + height + 1}"
    middle = (x1 + x2) // 2
    return f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"


def _points(rows: Iterable[Mapping[str, Any]], key: str) -> list[Point]:
    """(tokens, value) of the rows that have both; without tokens, (step, value)."""
    return [
        (float(x), float(y))
        for row in rows
        if is_number(x := row.get("tokens", row.get("step"))) and is_number(y := row.get(key))
    ]


def _plot(
    title: str,
    unit: str,
    series: list[tuple[str, str, list[Point]]],
    write: Callable[[float], str],
    n_ticks: int = 4,
    from_zero: bool = False,
    limits: tuple[float, float] | None = None,
    log_x: bool = False,
) -> Plot | None:
    """`limits`: what the y axis encloses instead of all points; `log_x`: from the first positive x, logarithmically."""
    series = [(label, style, [p for p in found if p[0] > 0 or not log_x]) for label, style, found in series]
    points = [point for _, _, found in series for point in found]
    if not points:
        return None
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points) or 1.0
    lowest = 0.0 if from_zero else min(y for _, y in points)
    y_ticks = ticks(*(limits or (lowest, max(y for _, y in points))), n_ticks)
    low, high = y_ticks[0], y_ticks[-1]
    log_x = log_x and x_high > x_low

    def across(x: float) -> float:
        return math.log(x / x_low) / math.log(x_high / x_low) if log_x else x / x_high

    def place(point: Point) -> Point:
        return 1000 * across(point[0]), 1000 - 1000 * (point[1] - low) / (high - low)

    curves = [_curve(label, style, found, place, write) for label, style, found in series if found]
    x_ticks = _powers(x_low, x_high) if log_x else [x for x in ticks(0.0, x_high) if x <= x_high]
    return Plot(
        title,
        unit,
        curves,
        [(round(100 - 100 * (y - low) / (high - low), 2), write(y)) for y in y_ticks],
        [(round(100 * across(x), 2), _round(x)) for x in x_ticks],
        "tokens",
    )


def _powers(low: float, high: float) -> list[float]:
    """The powers of ten in low..high; its two ends where there are fewer than two."""
    found = [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return found if len(found) > 1 else [low, high]


def _curve(
    label: str,
    style: str,
    points: list[Point],
    place: Callable[[Point], Point],
    write: Callable[[float], str],
) -> Curve:
    last = points[-1]
    end = round(place(last)[1] / 10, 2)
    if style == "validation":
        placed = [place(p) for p in points]
        dots = " ".join(f"M{x:.1f} {y:.1f}h0.01" for x, y in placed)
        return Curve(_path(placed), style, label, dots=dots, end=end, value=write(last[1]))
    middle, lower, upper = _thin(points)
    band = ""
    if len(middle) < len(points):
        band = (
            _path([place(p) for p in upper])
            + _path([place(p) for p in reversed(lower)]).replace("M", "L", 1)
            + "Z"
        )
    return Curve(_path([place(p) for p in middle]), style, label, band=band, end=end, value=write(last[1]))


def _thin(points: list[Point]) -> tuple[list[Point], list[Point], list[Point]]:
    """At most MAX_POINTS means of neighbouring points, with the least and the greatest of each group."""
    n = math.ceil(len(points) / MAX_POINTS)
    if n == 1:
        return points, points, points
    groups = [points[i : i + n] for i in range(0, len(points), n)]
    x = [sum(p[0] for p in group) / len(group) for group in groups]
    mean = [sum(p[1] for p in group) / len(group) for group in groups]
    low, high = ([pick(p[1] for p in group) for group in groups] for pick in (min, max))
    return list(zip(x, mean, strict=True)), list(zip(x, low, strict=True)), list(zip(x, high, strict=True))


def _path(points: list[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) that enclose low..high in about `n` steps."""
    if not high > low:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _share(value: float) -> float:
    return round(100 * min(max(value, 0.0), 1.0), 2)


def _decimal(value: float) -> str:
    return f"{value:.3g}" if value == round(value, 2) else f"{value:.3f}"


def _plain(value: float) -> str:
    return f"{value:g}"


def _round(value: float) -> str:
    """A tick's round number: `15 k`, not `15.0 k`."""
    figure, _, unit = compact(value).partition(" ")
    return (figure.rstrip("0").rstrip(".") if "." in figure else figure) + (f" {unit}" if unit else "")
