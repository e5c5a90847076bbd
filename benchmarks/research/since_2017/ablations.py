"""What each change since 2017 brought: one change at a time, at equal data, parameters and time.

From the Transformer as published to Parakit's default, with an n-gram model and an LSTM before it. Every model trains
for the same processor time (one thread, so that other work on the machine changes nothing) at two learning rates, and
again with other seeds at the better one. Bits per byte of books that were held out. Writes results/since_2017.json and
docs/since-2017.png.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, ROOT, run_process
from benchmarks.pictures import draw_ablations
from benchmarks.registry import NO_TARGET, Figures, benchmark

PICTURE = ROOT / "docs" / "since-2017.png"
RATES = {"adamw": (1e-3, 3e-3), "muon": (0.01, 0.02), "lstm": (3e-3, 1e-2)}
N_GRAM_ORDERS = (3, 4, 5, 6, 7)


@benchmark("since_2017", {
    "last_over_first": ("< 1", "bits per byte of the last model over those of the first"),
    "bits_per_byte.*": (NO_TARGET, "{0}: bits per byte of held-out books"),
})  # fmt: skip
def since_2017(
    *, data: Path = DATA, seconds: float = 90.0, seeds: int = 2, jobs: int = 1, only: int | None = None
) -> Figures:
    """`seconds` is the processor time of one run, `jobs` the number of runs at a time, at most one a core; `only` measures
    one ablation.
    """
    from benchmarks.research.since_2017 import points
    from benchmarks.research.since_2017.text import prepare

    with tempfile.TemporaryDirectory() as folder:
        text = prepare(data / "gutenberg", Path(folder))
        common = {"seconds": seconds, "text": str(text)}
        rows = [_n_gram(text), _train_all("LSTM", 1997, common | {"what": "lstm"}, seeds, jobs)]
        for number, step in enumerate(points.ablation_steps()):
            if only in (None, number):
                job = common | {"what": str(number)}
                rows.append(_train_all(step.point.name, step.point.year, job, seeds, jobs))
    by_name = {row["name"]: row["bits_per_byte"] for row in rows}
    figures: Figures = {"seconds_each": seconds, "seeds": seeds, "models": rows, "bits_per_byte": by_name}
    if only is None:
        first, last = points.ABLATIONS[0].name, points.ABLATIONS[-1].name
        figures["last_over_first"] = by_name[last] / by_name[first]
        draw_ablations(PICTURE, rows)
    return figures


def _n_gram(text: Path) -> dict[str, Any]:
    """The best order; and the largest model with no more entries than the others have weights."""
    import numpy as np

    from benchmarks.research.since_2017 import points
    from benchmarks.research.since_2017.classical_baselines import KneserNey

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


def _train_all(name: str, year: int, job: dict[str, Any], n_seeds: int, n_jobs: int) -> dict[str, Any]:
    """All runs of one model: every learning rate with the first seed, the best one with the others. A rate at which any
    seed diverged gives way to the next better one, and is named.
    """
    from benchmarks.research.since_2017 import points

    kind = "lstm" if job["what"] == "lstm" else points.ablation_steps()[int(job["what"])].optimizer
    diverged: list[float] = []
    with ThreadPoolExecutor(n_jobs) as pool:
        first_jobs = [job | {"rate": rate, "seed": 0} for rate in RATES[kind]]
        first = dict(zip(RATES[kind], pool.map(_run, first_jobs), strict=True))
        for best in sorted(first, key=lambda rate: first[rate]["bits_per_byte"]):
            others = [job | {"rate": best, "seed": seed} for seed in range(1, n_seeds)]
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
    return row


def _run(job: dict[str, Any]) -> Figures:
    """One run in a process of its own, on one thread."""
    command = [sys.executable, "-m", "benchmarks.research.since_2017.run", json.dumps(job)]
    return run_process(command, environment={"OMP_NUM_THREADS": "1"}).figures
