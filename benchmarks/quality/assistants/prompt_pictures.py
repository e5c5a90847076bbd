"""The pictures of docs/prompts.md: right answers by kind of prompt, and against the tokens that are spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.pictures import panels

KINDS_PICTURE = ROOT / "docs" / "prompt-kinds.svg"
CURVE_PICTURE = ROOT / "docs" / "best-of-n.svg"
_NAMES = {
    "votes": "votes",
    "steps": "best of n, steps checked",
    "coverage": "a right one among n",
    "budget": "forced thinking",
    "thinking": "forced reasoning, tuned to reason",
}


def draw_kinds(models: Mapping[str, Any], kinds: Sequence[str], path: Path = KINDS_PICTURE) -> None:
    """A panel for each model: a line of each suite over the kinds, with intervals."""
    with panels(path, len(models), (4.4 * len(models), 4.2), sharey=True, squeeze=False) as axes:
        for panel, (name, suites) in zip(axes[0], models.items(), strict=True):
            for number, (suite, found) in enumerate(suites.items()):
                values = [100 * found[kind]["score"] for kind in kinds]
                errors = [
                    [100 * (found[kind]["score"] - found[kind]["low"]) for kind in kinds],
                    [100 * (found[kind]["high"] - found[kind]["score"]) for kind in kinds],
                ]
                places = [place + 0.12 * (number - 1.5) for place in range(len(kinds))]
                panel.errorbar(places, values, errors, fmt="o", markersize=4, capsize=2, label=suite)
            panel.set_xticks(range(len(kinds)), [kind.replace("_", "\n") for kind in kinds], fontsize=8)
            panel.set_title(name, fontsize=10)
            panel.grid(alpha=0.3)
        axes[0][0].set_ylabel("right answers, %")
        axes[0][-1].legend(fontsize=8)


def draw_curves(curves: Mapping[str, Any], path: Path = CURVE_PICTURE) -> None:
    """Right answers against the tokens of an item, a line for each way to spend them."""
    with panels(path) as axes:
        for name, points in curves.items():
            tokens = [one["tokens"] for one in points]
            values = [100 * one["value"] for one in points]
            errors = [
                [100 * (one["value"] - one["low"]) for one in points],
                [100 * (one["high"] - one["value"]) for one in points],
            ]
            label = _NAMES.get(name, name)
            axes.errorbar(tokens, values, errors, marker="o", markersize=3, capsize=2, label=label)
        axes.set(xlabel="tokens of an item, prompt and replies", ylabel="right answers, %", xscale="log")
        axes.set_title("Arithmetic problems: several replies, or longer thinking")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
