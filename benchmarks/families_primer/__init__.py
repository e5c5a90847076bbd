"""All three families end to end on the primer, by one command each: the recipes of `recipes/`, built and measured.

An encoder that labels opinions, an encoder-decoder that translates, and the Transformer of 2017; the decoder's life is
the benchmark `quickstart`. Minutes are processor time of all of a build, children included, so that a busy machine
changes nothing; scores are those of the test split, whose combinations of words never occur in training.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Figures, report, run_parakit
from parakit.common.files import read_json

SCORES = {"encoder-classifier": "accuracy", "translator": "bleu", "transformer-2017": "bleu"}
BARS = {"accuracy": ">= 0.95", "bleu": ">= 60"}
MINUTES = "<= 10"


def main(words: list[str]) -> None:
    """Build the recipes one after the other and report."""
    parser = argparse.ArgumentParser(prog="make bench NAME=families_primer", description=__doc__)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings, to try it")
    parser.add_argument("--only", choices=SCORES, nargs="*", default=[*SCORES])
    arguments = parser.parse_args(words)
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            figures[_key(name)] = _built(name, arguments.set, Path(folder))
    bar = {}
    for name in arguments.only:
        bar[f"{_key(name)}.{SCORES[name]}"] = BARS[SCORES[name]]
        bar[f"{_key(name)}.minutes"] = MINUTES
    report("families_primer", figures, bar)


def _built(name: str, changes: Sequence[str], folder: Path) -> dict[str, Any]:
    """One recipe's minutes and scores."""
    settings = ["--set", *changes] if changes else []
    run = run_parakit("build", "--json", "--builds", folder, ROOT / "recipes" / f"{name}.yaml", *settings)
    minutes = run.processor_seconds / 60
    found = read_json(folder / name / "evaluate" / "results.json")["task"]
    stage = run.figures["stages"]["finetune"]
    return {
        "minutes": minutes,
        "wall_minutes": run.seconds / 60,
        "parameters": stage["parameters"],
        "examples": found["n"],
        "peak_memory_mib": run.peak_memory_mib,
        **{row["name"]: row["value"] for row in found["figures"]},
        "notes": {row["name"]: row["note"] for row in found["figures"] if row.get("note")},
    }


def _key(name: str) -> str:
    return name.replace("-", "_")
