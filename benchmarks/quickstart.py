"""`make quickstart` on a fresh clone, as a new user runs it: time from nothing to a model that talks.

The working tree's last commit is cloned to a temporary folder; installation, build and evaluation are in the
time. The suites' figures are those of the build's own summary.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.harness import ROOT, SHOWN, Figures, report


def main(words: list[str]) -> None:
    """Clone, `make quickstart`, read the summary, write the result."""
    argparse.ArgumentParser(prog="make bench NAME=quickstart", description=__doc__).parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "parakit"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        started = time.perf_counter()
        subprocess.run(["make", "quickstart"], cwd=clone, check=True)
        seconds = time.perf_counter() - started
        summary = json.loads((clone / "builds" / "primer" / "summary.json").read_text(encoding="utf-8"))
    models = list(summary["models"])
    means, suites = summary["suite_mean"], summary["suites"]
    last = {suite: results[models[-1]]["accuracy"] for suite, results in suites.items()}
    figures: Figures = {
        "minutes_from_clone": seconds / 60,
        "build_minutes": summary["seconds"] / 60,
        "mean_accuracy": {model: means[model] for model in models},
        "last_model": models[-1],
        "last_model_mean_accuracy": means[models[-1]],
        "last_model_lowest_accuracy": min(last.values()),
        "suites": {
            suite: {model: results[model]["accuracy"] for model in models}
            for suite, results in suites.items()
        },
        "parameters": {
            model: summary["stages"][stage]["parameters"] for model, stage in summary["models"].items()
        },
        "minutes": {name: stage["seconds"] / 60 for name, stage in summary["stages"].items()},
    }
    bar = {
        "minutes_from_clone": "<= 12",
        "build_minutes": "<= 10",
        "last_model_mean_accuracy": ">= 0.8",
        "last_model_lowest_accuracy": ">= 0.6",
    } | {f"mean_accuracy.{model}": SHOWN for model in models}
    report("quickstart", figures, bar)
