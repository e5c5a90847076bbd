"""Over-optimisation in one picture: what the proxy says and what gold says, against the distance from the start without
a leash, and along the runs with and without one. Thin lines and dots are seeds, thick lines their medians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT

PICTURE = ROOT / "docs" / "over-optimisation.svg"
Points = Mapping[str, Sequence[Sequence[float]]]
Shown = Mapping[str, tuple[str, str]]
FREE: Shown = {
    "grpo_no_leash": ("GRPO", "C3"),
    "ppo_no_leash": ("PPO", "C0"),
    "best_of_n": ("best of 1 to 64", "C2"),
}
GRPO: Shown = {
    "grpo_no_leash": ("no leash", "C3"),
    "grpo_fixed": ("kl_coef 1", "C1"),
    "grpo_target": ("kl_target 0.6", "C4"),
    "grpo_limit": ("kl_limit 1 ends the run", "C2"),
}
PPO: Shown = {"ppo_no_leash": ("no leash", "C0"), "ppo_target": ("kl_target 0.6", "C4")}
TIME, KL, PROXY, GOLD = range(4)  # of a point's coordinates
LOWEST, HIGHEST = -1.6, 2.6  # what lies beyond is drawn at the edge
BIN = 0.4  # of the root of the divergence


def medians(lines: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """The median of every coordinate over the seeds, point by point; where runs ended, over those that went on."""
    steps = zip_longest(*lines)
    return np.array([np.median([point for point in step if point is not None], axis=0) for step in steps])


def by_distance(lines: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """The medians of all seeds' points that lie about equally far from the start, nearest first: a run may come
    nearer again, so points in the order of time would draw loops.
    """
    points = np.array([point for line in lines for point in line])
    bins = np.round(np.sqrt(points[:, KL]) / BIN)
    return np.array([np.median(points[bins == number], axis=0) for number in np.unique(bins)])


def draw(rounds: Sequence[Points], path: Path = PICTURE) -> None:
    """Write the picture of these seeds' points, each (phase or n, kl, proxy, gold, ...)."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "parakit"  # the same points give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13.0, 4.4), sharey=True)
    _against_distance(axes[0], rounds)
    axes[0].set(
        title="Without a leash",
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
        panel.plot([], [], color="0.2", linestyle="--", label="proxy")
        panel.legend(loc="lower left", fontsize=8, ncols=2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _against_distance(axes: Any, rounds: Sequence[Points]) -> None:
    for name, (label, color) in FREE.items():
        lines = [points[name] for points in rounds]
        every = np.array([point for line in lines for point in line])
        gold = every[:, GOLD].clip(LOWEST)
        axes.scatter(np.sqrt(every[:, KL]), gold, s=6, color=color, alpha=0.35, linewidths=0)
        middle = medians(lines) if name == "best_of_n" else by_distance(lines)
        _thick(axes, np.sqrt(middle[:, KL]), middle, label, color)


def _along_the_run(axes: Any, rounds: Sequence[Points], shown: Shown) -> None:
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
