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

from benchmarks.harness import ROOT, Figures, report


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
    accuracies = {suite: results["tuned"]["accuracy"] for suite, results in summary["suites"].items()}
    base = {suite: results["base"]["accuracy"] for suite, results in summary["suites"].items()}
    figures: Figures = {
        "minutes_from_clone": seconds / 60,
        "build_minutes": summary["seconds"] / 60,
        "tuned_mean_accuracy": summary["suite_mean"]["tuned"],
        "tuned_lowest_accuracy": min(accuracies.values()),
        "base_mean_accuracy": summary["suite_mean"]["base"],
        "tuned": accuracies,
        "base": base,
        "parameters": summary["stages"]["pretrain"]["parameters"],
    }
    bar = {
        "minutes_from_clone": "<= 12",
        "build_minutes": "<= 7",
        "tuned_mean_accuracy": ">= 0.8",
        "tuned_lowest_accuracy": ">= 0.6",
    }
    report("quickstart", figures, bar)
