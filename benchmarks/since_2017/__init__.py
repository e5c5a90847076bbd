"""What each change since 2017 brought: one road, one change at a time, at equal data, parameters and time.

From the Transformer as published to Parakit's default, with an n-gram model and an LSTM before it. Every point trains
for the same processor time (one thread, so a busy machine costs nobody anything) at two learning rates, and again
with other seeds at the better one. Bits per byte of books that were held out. Writes results/since_2017.json and
docs/since-2017.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, ROOT, SHOWN, Figures, report, run_process

PICTURE = ROOT / "docs" / "since-2017.png"
RATES = {"adamw": (1e-3, 3e-3), "muon": (0.01, 0.02), "lstm": (3e-3, 1e-2)}
N_GRAM_ORDERS = (3, 4, 5, 6, 7)


def main(words: list[str]) -> None:
    """Measure the whole road, one process a run, and write result and picture."""
    parser = argparse.ArgumentParser(prog="make bench NAME=since_2017", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seconds", type=float, default=90.0, help="processor time of one run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; at most one a core")
    parser.add_argument("--only", type=int, default=None, help="one point of the road, for a try")
    arguments = parser.parse_args(words)
    from benchmarks.since_2017 import points
    from benchmarks.since_2017.text import prepare

    with tempfile.TemporaryDirectory() as folder:
        text = prepare(arguments.data / "gutenberg", Path(folder))
        rows = [_n_gram(text), *_trained("LSTM", 1997, "lstm", text, arguments)]
        for number, stop in enumerate(points.stops()):
            if arguments.only in (None, number):
                rows += _trained(stop.point.name, stop.point.year, str(number), text, arguments)
    road = {row["name"]: row for row in rows}
    first, last = points.ROAD[0].name, points.ROAD[-1].name
    figures: Figures = {"seconds_each": arguments.seconds, "seeds": arguments.seeds, "road": rows}
    if arguments.only is None:
        figures["bits_per_byte"] = {name: row["bits_per_byte"] for name, row in road.items()}
        figures["last_against_first"] = road[last]["bits_per_byte"] / road[first]["bits_per_byte"]
        _draw(rows)
    shown = {f"bits_per_byte.{name}": SHOWN for name in figures.get("bits_per_byte", {}) if "." not in name}
    report("since_2017", figures, shown | ({"last_against_first": "< 1"} if arguments.only is None else {}))


def _n_gram(text: Path) -> dict[str, Any]:
    """The best order; beside it the largest model that has no more entries than the others have weights."""
    import numpy as np

    from benchmarks.since_2017 import points
    from benchmarks.since_2017.before import KneserNey

    train, held_out = (np.fromfile(text / f"{split}.bytes", np.uint8) for split in ("train", "validation"))
    started = time.process_time()
    found = []
    for order in N_GRAM_ORDERS:
        model = KneserNey(train, order)
        found.append(
            {"order": order, "entries": model.n_entries, "bits_per_byte": model.bits_per_byte(held_out)}
        )
    best = min(found, key=lambda row: row["bits_per_byte"])
    small = [row for row in found if row["entries"] <= points.N_PARAMS]
    print(f"n-gram: {found}", file=sys.stderr)
    return {
        "name": "n-gram",
        "year": 1995,
        "bits_per_byte": best["bits_per_byte"],
        "parameters": best["entries"],
        "orders": found,
        "of_equal_size": small[-1] if small else None,
        "seconds": time.process_time() - started,
    }


def _trained(
    name: str, year: int, what: str, text: Path, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """All runs of one point: both learning rates with the first seed, the better one with the others. A rate at which
    any seed went astray gives way to the next better one, and is named.
    """
    from benchmarks.since_2017 import points

    kind = "lstm" if what == "lstm" else points.stops()[int(what)].optimizer
    common = {"what": what, "seconds": arguments.seconds, "text": str(text)}
    diverged: list[float] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        tried = [common | {"rate": rate, "seed": 0} for rate in RATES[kind]]
        first = dict(zip(RATES[kind], pool.map(_run, tried), strict=True))
        for best in sorted(first, key=lambda rate: first[rate]["bits_per_byte"]):
            others = [common | {"rate": best, "seed": seed} for seed in range(1, arguments.seeds)]
            runs = [first[best], *pool.map(_run, others)]
            if not any(run["diverged"] for run in runs):
                break
            diverged.append(best)
    row = {
        "name": name,
        "year": year,
        "bits_per_byte": statistics.fmean(r["bits_per_byte"] for r in runs),
        "by_seed": [r["bits_per_byte"] for r in runs],
        "learning_rate": best,
        "other_rates": {str(rate): r["bits_per_byte"] for rate, r in first.items() if rate != best},
        "diverged_rates": diverged,
        "parameters": runs[0]["parameters"],
        "bytes_seen": statistics.fmean(r["bytes_seen"] for r in runs),
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return [row]


def _run(job: dict[str, Any]) -> Figures:
    """One run in a process of its own, on one thread."""
    command = [sys.executable, "-m", "benchmarks.since_2017.run", json.dumps(job)]
    return run_process(command, environment={"OMP_NUM_THREADS": "1"}).figures


def _draw(rows: list[dict[str, Any]]) -> None:
    """Bits per byte along the road; lower is better."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 5.2), layout="constrained")
    names = [f"{row['name']} ({row['year']})" for row in rows]
    values = [row["bits_per_byte"] for row in rows]
    colours = ["#9aa5b1", "#9aa5b1", *["#2f6f9f"] * (len(rows) - 2)]
    for place, (row, value, colour) in enumerate(zip(rows, values, colours, strict=True)):
        seeds = row.get("by_seed") or [value]
        axes.plot([min(seeds), max(seeds)], [place, place], color=colour, linewidth=2.5, alpha=0.5)
        axes.plot([value], [place], "o", color=colour, markersize=8)
        axes.annotate(f"{value:.2f}", (max(seeds), place), (10, -3), textcoords="offset points", fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(min(values) * 0.93, max(values) * 1.04)
    axes.set_xlabel("bits per byte of held-out books (lower is better; lines join the seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=110)
