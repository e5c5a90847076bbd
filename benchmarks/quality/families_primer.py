"""All three families end to end on the primer, by one command each: the recipes of `recipes/`, built and measured.

An encoder that labels opinions, an encoder-decoder that translates, and the Transformer of 2017; the decoder is measured by
the benchmark `quickstart`. Minutes are processor time of all of a build, children included, so that a busy machine
changes nothing; scores are those of the test split, whose combinations of words never occur in training.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, run_parakit
from benchmarks.registry import Figures, benchmark
from parakit.common.files import read_json

RECIPES = ("encoder-classifier", "translator", "transformer-2017")


@benchmark("families_primer", {
    "*.accuracy": (">= 0.95", "{0}: accuracy"),
    "*.bleu": (">= 60", "{0}: BLEU"),
    "*.minutes": ("<= 10", "{0}: processor minutes of the whole build"),
})  # fmt: skip
def families_primer(*, recipes: tuple[str, ...] = RECIPES, set: tuple[str, ...] = ()) -> Figures:
    """`set` are other settings for a try, as KEY=VALUE."""
    with tempfile.TemporaryDirectory() as folder:
        return {name.replace("-", "_"): _built(name, set, Path(folder)) for name in recipes}


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
