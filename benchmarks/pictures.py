"""The pictures that benchmarks draw. SVG files are the same bytes for the same points."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

Lines = Mapping[str, Sequence[tuple[float, float]]]


@contextlib.contextmanager
def panels(
    path: Path, n_columns: int = 1, size: tuple[float, float] = (6.4, 4.0), **options: Any
) -> Iterator[Any]:
    """Axes in a row (one: the axes themselves), written to `path` (.svg or .png) afterwards."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "Agg")
    mpl.rcParams["svg.hashsalt"] = "parakit"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, n_columns, figsize=size, layout="constrained", **options)
    yield axes
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else {})
    pyplot.close(figure)


def draw_lines(path: Path, title: str, x: str, y: str, lines: Lines) -> None:
    """One line with dots for each entry of `lines`, its points in their order."""
    with panels(path) as axes:
        for name, line in lines.items():
            axes.plot([a for a, _ in line], [b for _, b in line], marker="o", markersize=3, label=name)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        axes.legend()


_COLOURS = ("#b2452f", "#2f6f9f", "#3d8b4f", "#8a6bb0", "#b2452f", "#2f6f9f", "#3d8b4f", "#555555")


def draw_cost_against_length(
    path: Path, figures: Mapping[str, Any], kinds: Sequence[str], costs: Sequence[str], modes: Sequence[str]
) -> None:
    """A panel for each cost and mode, both axes logarithmic; the slope of a line is its exponent."""
    with panels(path, len(costs) * len(modes), (20, 4), sharex=True) as axes:
        for panel, (cost, mode) in zip(axes, product(costs, modes), strict=True):
            for kind, colour in zip(kinds, _COLOURS, strict=False):
                points, slope = figures[mode][kind][cost], figures[mode][kind]["exponent"][cost]
                values = [point["median"] for point in points.values()]
                panel.loglog(
                    [int(n) for n in points], values, "o--" if "causal" in kind else "o-", color=colour,
                    markersize=3, label=f"{kind} ({slope})",
                )  # fmt: skip
            panel.set_title(f"{mode}: {cost} (exponent)", fontsize=10)
            panel.set_xlabel("tokens")
            panel.set_xscale("log", base=2)
            panel.legend(fontsize=8, frameon=False)
            panel.spines[["top", "right"]].set_visible(False)


def draw_ablations(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bits per byte of each model, one below the other; lines join the seeds."""
    values = [row["bits_per_byte"] for row in rows]
    with panels(path, 1, (10, 5.2)) as axes:
        for place, row in enumerate(rows):
            seeds, colour = (
                row.get("by_seed") or [row["bits_per_byte"]],
                "#9aa5b1" if place < 2 else "#2f6f9f",
            )
            axes.plot([min(seeds), max(seeds)], [place, place], color=colour, linewidth=2.5, alpha=0.5)
            axes.plot([values[place]], [place], "o", color=colour, markersize=8)
            label = f"{values[place]:.2f}"
            axes.annotate(label, (max(seeds), place), (10, -3), textcoords="offset points", fontsize=9)
        axes.grid(axis="x", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_yticks(range(len(rows)), [f"{row['name']} ({row['year']})" for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(min(values) * 0.93, max(values) * 1.04)
        axes.set_xlabel("bits per byte of held-out books (lower is better; lines join the seeds)")
        axes.spines[["top", "right"]].set_visible(False)


_Points = Mapping[str, Sequence[Sequence[float]]]
_Runs = Mapping[str, tuple[str, str]]
FREE: _Runs = {
    "grpo_no_kl": ("GRPO", "C3"),
    "ppo_no_kl": ("PPO", "C0"),
    "best_of_n": ("best of 1 to 64", "C2"),
}
GRPO: _Runs = {
    "grpo_no_kl": ("no KL penalty", "C3"),
    "grpo_fixed": ("kl_coef 1", "C1"),
    "grpo_target": ("kl_target 0.6", "C4"),
    "grpo_limit": ("kl_limit 1 ends the run", "C2"),
}
PPO: _Runs = {"ppo_no_kl": ("no KL penalty", "C0"), "ppo_target": ("kl_target 0.6", "C4")}
TIME, KL, PROXY, GOLD = range(4)  # of a point's coordinates
LOWEST, HIGHEST = -1.6, 2.6  # what is beyond is drawn at the edge
BIN = 0.4  # of the root of the divergence


def medians(lines: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """The median of every coordinate over the seeds, point by point; where runs ended, over the others."""
    steps = zip_longest(*lines)
    return np.array([np.median([point for point in step if point is not None], axis=0) for step in steps])


def by_distance(lines: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """The medians of all seeds' points that are about equally far from the start, nearest first: a run may come
    nearer again, so points in the order of time would draw loops.
    """
    points = np.array([point for line in lines for point in line])
    bins = np.round(np.sqrt(points[:, KL]) / BIN)
    return np.array([np.median(points[bins == number], axis=0) for number in np.unique(bins)])


def draw_overoptimization(path: Path, rounds: Sequence[_Points]) -> None:
    """What the learned and the gold reward do against the distance from the start without a KL penalty, and along the runs
    with and without one; each of the seeds' points is (phase or n, kl, learned, gold, ...). Thin lines and dots are
    seeds, thick lines their medians.
    """
    with panels(path, 3, (13.0, 4.4), sharey=True) as axes:
        _against_distance(axes[0], rounds)
        axes[0].set(
            title="Without a KL penalty",
            xlabel="square root of nats a completion from the start",
            ylabel="reward, deviations from the start",
        )
        for panel, shown, title in ((axes[1], GRPO, "GRPO"), (axes[2], PPO, "PPO")):
            _along_the_run(panel, rounds, shown)
            panel.set(title=title, xlabel="phases of 128 completions")
        for panel in axes:
            panel.set_ylim(LOWEST - 0.1, HIGHEST)
            panel.axhline(0, color="0.6", linewidth=0.8)
            panel.grid(alpha=0.3)
            panel.plot([], [], color="0.2", label="gold")
            panel.plot([], [], color="0.2", linestyle="--", label="learned")
            panel.legend(loc="lower left", fontsize=8, ncols=2)


def _against_distance(axes: Any, rounds: Sequence[_Points]) -> None:
    for name, (label, color) in FREE.items():
        lines = [points[name] for points in rounds]
        every = np.array([point for line in lines for point in line])
        gold = every[:, GOLD].clip(LOWEST)
        axes.scatter(np.sqrt(every[:, KL]), gold, s=6, color=color, alpha=0.35, linewidths=0)
        middle = medians(lines) if name == "best_of_n" else by_distance(lines)
        _thick(axes, np.sqrt(middle[:, KL]), middle, label, color)


def _along_the_run(axes: Any, rounds: Sequence[_Points], shown: _Runs) -> None:
    for name, (label, color) in shown.items():
        lines = [points[name] for points in rounds]
        for line in lines:
            points = np.array(line)
            axes.plot(points[:, TIME], points[:, GOLD].clip(LOWEST), color=color, linewidth=0.6, alpha=0.4)
        middle = medians(lines)
        _thick(axes, middle[:, TIME], middle, label, color)


def _thick(axes: Any, place: np.ndarray, points: np.ndarray, label: str, color: str) -> None:
    axes.plot(place, points[:, GOLD].clip(LOWEST), color=color, linewidth=2, label=label)
    axes.plot(place, points[:, PROXY], color=color, linewidth=1.4, linestyle="--")


def draw_growth(
    path: Path,
    by_context: Sequence[Mapping[str, float]],
    by_rows: Sequence[Mapping[str, float]],
    curves: Mapping[str, Mapping[str, float]],
) -> None:
    """Milliseconds of prefill and of a decoding step against the context, and of a step against rows; dots are measured,
    lines fitted, dashes the time that memory needs.
    """
    with panels(path, 3, (13, 3.8)) as axes:
        for panel, (title, points, x, y) in zip(
            axes,
            (
                ("prefill", by_context, "context", "prefill"),
                ("decode", by_context, "context", "step"),
                ("batch", by_rows, "rows", "step"),
            ),
            strict=True,
        ):
            at = np.array([point[x] for point in points], dtype=float)
            fine = np.linspace(at.min(), at.max(), 100)
            powers = [value for name, value in curves[title].items() if name.startswith("seconds")]
            fitted = sum(value * fine**power for power, value in enumerate(powers))
            panel.plot(at, [1000 * point[y] for point in points], "o", color="#2f6f9f", label="measured")
            panel.plot(fine, 1000 * fitted, color="#2f6f9f", linewidth=1, label="fitted")
            if y == "step":
                floor = [1000 * point["floor"] for point in points]
                panel.plot(at, floor, "--", color="#b2452f", label="floor of the memory")
            panel.set_title(
                {"prefill": "prefill", "decode": "a decoding step", "batch": "a step of many rows"}[title]
            )
            panel.set_xlabel("rows" if x == "rows" else "tokens of context")
            panel.set_ylabel("milliseconds")
            panel.set_ylim(bottom=0)
            panel.legend(fontsize=8, frameon=False)


def draw_rate_transfer(path: Path, losses: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """A panel for each optimizer: the loss against the learning rate, a line for each width."""
    titles = {"muon": "Muon", "adamw": "AdamW"}
    with panels(path, len(losses), (4.8 * len(losses), 3.8)) as axes:
        for panel, (optimizer, by_width) in zip(np.atleast_1d(axes), losses.items(), strict=True):
            for (width, curve), colour in zip(by_width.items(), _COLOURS, strict=False):
                points = [(float(rate), loss) for rate, loss in curve.items()]
                panel.semilogx(*zip(*points, strict=True), "o-", color=colour, markersize=3, label=width)
                rate, least = min(points, key=lambda point: point[1])
                panel.plot([rate], [least], "o", color=colour, markersize=8, alpha=0.6)
            panel.set(title=titles[optimizer], xlabel="learning rate of the matrices", ylabel="nats a byte")
            rates = [rate for rate, _ in points]
            panel.set_xticks(rates, [f"{rate:g}" for rate in rates], fontsize=8)
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            panel.legend(title="width", fontsize=8, loc="upper center", ncols=len(by_width))
            panel.margins(y=0.2)
