"""`parakit build --time` against a grid of sizes at the same time: how much better the best size would have been.

Each build has the whole text, its own tokenizer and the same wall time, one after the other; so nothing else should run on
the machine. `scale` shortens the times.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import DATA, kept_or_measured, pretraining_figures, run_parakit, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark

TIMES = {"10min": 600.0, "30min": 1800.0}
GRID = (0.5, 0.71, 1.41, 2.0)  # times the chosen size


@benchmark("time_budget", {
    "over_best.*": ("<= 1.02", "{0}: bits per byte of the chosen size over those of the best of the grid"),
    "chosen.*": (NO_TARGET, "{0}: parameters that the build chose"),
    "best.*": (NO_TARGET, "{0}: parameters of the best"),
})  # fmt: skip
def time_budget(
    *,
    data: Path = DATA,
    scale: float = 1.0,
    times: tuple[str, ...] = tuple(TIMES),
    grid: tuple[float, ...] = GRID,
    work: Path | None = None,
) -> Figures:
    """`data` holds the folder gutenberg; `scale`: 0.1 builds for a minute and three. `work` keeps what is measured."""
    figures: Figures = {"scale": scale, "over_best": {}, "chosen": {}, "best": {}, "runs": {}}
    with work_folder(work) as folder:
        for name in times:
            seconds = scale * TIMES[name]
            chosen = _build(data, folder, f"{name}-chosen", seconds)
            rows = [chosen]
            for factor in grid:
                size = str(round(factor * chosen["parameters"]))
                rows.append(_build(data, folder, f"{name}-x{factor:g}", seconds, "--size", size))
            best = min(rows, key=lambda row: row["bits_per_byte"])
            figures["over_best"][name] = chosen["bits_per_byte"] / best["bits_per_byte"]
            figures["chosen"][name], figures["best"][name] = chosen["parameters"], best["parameters"]
            figures["runs"][name] = rows
    return figures


def _build(data: Path, folder: Path, name: str, seconds: float, *options: str) -> Figures:
    """The held-out bits per byte of one build, kept in the folder."""

    def measure() -> Figures:
        words = f"--exclude SOURCE.txt --time {seconds:g}s --builds {folder} --name {name} --json".split()
        return pretraining_figures(run_parakit("build", "--text", data / "gutenberg", *words, *options))

    return kept_or_measured(folder / f"{name}.json", measure)
