"""Over-optimisation in one picture: what the proxy says and what gold says, against the distance from the start, and
along the run with and without a leash. Thin lines are seeds, thick ones their medians.
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
FREE = {
    "grpo_no_leash": ("GRPO", "C3"),
    "ppo_no_leash": ("PPO", "C0"),
    "best_of_n": ("best of 1 to 64", "C2"),
}
GRPO = {
    "grpo_no_leash": ("no leash", "C3"),
    "grpo_fixed": ("kl_coef fixed", "C1"),
    "grpo_target": ("kl_target", "C4"),
    "grpo_limit": ("kl_limit, ends the run", "C2"),
}
TIME, KL, PROXY, GOLD = range(4)  # of a point's coordinates


def medians(lines: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """The median of every coordinate over the seeds, point by point; where runs ended, over those that went on."""
    steps = zip_longest(*lines)
    return np.array([np.median([point for point in step if point is not None], axis=0) for step in steps])


def draw(rounds: Sequence[Points], path: Path = PICTURE) -> None:
    """Write the picture of these seeds' points, each (phase or n, kl, proxy, gold, ...)."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "parakit"  # the same points give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10.4, 4.4), sharey=True)
    _lines(axes[0], rounds, FREE, lambda points: np.sqrt(points[:, KL]))
    axes[0].set(
        title="Without a leash",
        xlabel="square root of nats a completion from the start",
        ylabel="reward, deviations from the start",
    )
    _lines(axes[1], rounds, GRPO, lambda points: points[:, TIME])
    axes[1].set(title="GRPO with leashes", xlabel="phases of 128 completions")
    for one in axes:
        one.axhline(0, color="0.6", linewidth=0.8)
        one.grid(alpha=0.3)
        one.plot([], [], color="0.2", label="gold")
        one.plot([], [], color="0.2", linestyle="--", label="proxy")
        one.legend(loc="lower left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _lines(axes: Any, rounds: Sequence[Points], shown: Mapping[str, tuple[str, str]], place: Any) -> None:
    for name, (label, color) in shown.items():
        lines = [points[name] for points in rounds]
        for line in lines:
            points = np.array(line)
            axes.plot(place(points), points[:, GOLD], color=color, linewidth=0.6, alpha=0.35)
        middle = medians(lines)
        axes.plot(place(middle), middle[:, GOLD], color=color, linewidth=2, label=label)
        axes.plot(place(middle), middle[:, PROXY], color=color, linewidth=1.4, linestyle="--")
