"""`make quickstart` on a fresh clone, as a new user runs it: time from nothing to a model that talks.

The working tree's last commit is cloned to a temporary folder; installation, build and evaluation are in the
time. The suites' figures are those of the build's own summary.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import ROOT
from benchmarks.registry import NO_TARGET, Figures, benchmark


@benchmark("quickstart", {
    "minutes_from_clone": ("<= 12", "minutes from a fresh clone to the report, installation included"),
    "build_minutes": ("<= 10", "minutes of `parakit build` itself"),
    "last_model_mean_accuracy": (">= 0.8", "mean accuracy of the last model on the eight built-in suites"),
    "last_model_lowest_accuracy": (">= 0.6", "accuracy of the last model on its worst suite"),
    "mean_accuracy.*": (NO_TARGET, "mean accuracy on the suites of the model `{0}`"),
})  # fmt: skip
def quickstart() -> Figures:
    """Clone, `make quickstart`, read the summary."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "parakit"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        started = time.perf_counter()
        subprocess.run(["make", "quickstart"], cwd=clone, check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - started
        summary = json.loads((clone / "builds" / "primer" / "summary.json").read_text(encoding="utf-8"))
    models = list(summary["models"])
    means, suites = summary["suite_mean"], summary["suites"]
    last = {suite: results[models[-1]]["accuracy"] for suite, results in suites.items()}
    return {
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
