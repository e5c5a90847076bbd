"""Sequence to sequence on real data, from scratch: Multi30k English to German, and WikiSplit split-and-rephrase.

Each is one recipe and one `parakit build`: tokenizer, training, and the measure on an unseen test set. WikiSplit's public
training part is not among the public data used here: its 5,000 validation pairs are trained on, its 5,000 test pairs are
the test.
"""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, run_parakit
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.files import read_json


@benchmark("translation_multi30k", {
    "bleu": (">= 25", "BLEU on test_2016"),
    "chrf": (NO_TARGET, "chrF on test_2016"),
    "minutes": ("<= 60", "minutes of the whole build"),
    "parameters": (NO_TARGET, "parameters"),
})  # fmt: skip
def multi30k(*, data: Path = DATA, epochs: float = 14, size: str = "3m") -> Figures:
    """29,000 captions, English to German."""
    with tempfile.TemporaryDirectory() as folder:
        return _built(_multi30k(data), epochs, size, Path(folder))


@benchmark("translation_wiki_split", {
    "bleu": (NO_TARGET, "BLEU on the test pairs"),
    "chrf": (NO_TARGET, "chrF on the test pairs"),
    "minutes": (NO_TARGET, "minutes of the whole build"),
    "parameters": (NO_TARGET, "parameters"),
})  # fmt: skip
def wiki_split(*, data: Path = DATA, epochs: float = 12, size: str = "2m") -> Figures:
    """One long sentence to two short ones, from 4,760 pairs."""
    with tempfile.TemporaryDirectory() as folder:
        return _built(_wiki_split(data, Path(folder)), epochs, size, Path(folder))


def _built(recipe: dict[str, Any], epochs: float, size: str, work: Path) -> Figures:
    """Build a recipe and read its figures."""
    recipe = recipe | {"size": size, "finetune": recipe["finetune"] | {"epochs": epochs}}
    (work / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    run = run_parakit("build", "--json", "--builds", work, work / "recipe.yaml", timeout=7200)
    results = read_json(work / recipe["name"] / "evaluate" / "results.json")
    stage = run.figures["stages"]["finetune"]
    found = {row["name"]: row for row in results["task"]["figures"]}
    return {
        "minutes": run.seconds / 60,
        "training_minutes": stage["training_seconds"] / 60,
        "bleu": found["bleu"]["value"],
        "bleu_interval": [found["bleu"]["low"], found["bleu"]["high"]],
        "bleu_signature": found["bleu"]["note"],
        "chrf": found["chrf"]["value"],
        "chrf_signature": found["chrf"]["note"],
        "parameters": stage["parameters"],
        "tokens_per_second": stage["tokens_per_second"],
        "epochs": epochs,
        "peak_memory_mib": run.peak_memory_mib,
        "recipe": {
            name: value for name, value in recipe.items() if name != "examples"
        },  # without local paths
        "samples": results["task"]["samples"][:6],
    }


def _multi30k(data: Path) -> dict[str, Any]:
    """29,000 captions, English to German; BLEU on test_2016."""

    def pair(split: str) -> list[str]:
        return [f"{data}/multi30k/{split}.en.gz:{data}/multi30k/{split}.de.gz"]

    return {
        "name": "multi30k",
        "family": "encoder-decoder",
        "pretrain": "none",
        "max_seq_len": 80,
        "tokenizer": {"vocab_size": 6000},
        "examples": {
            "paths": pair("train"),
            "validation_paths": pair("val"),
            "test_paths": pair("test_2016_flickr"),
        },
        "finetune": {"task": "translate", "dropout": 0.1, "label_smoothing": 0.1},
        "evaluate": {"max_new_tokens": 70},
    }


def _wiki_split(data: Path, work: Path) -> dict[str, Any]:
    """One long sentence to two short ones."""
    for split in ("validation", "test"):
        with gzip.open(data / "wiki_split" / f"{split}.tsv.gz", "rt", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        lines = [json.dumps({"source": a, "target": b.replace(" <::::> ", " ")}) for a, b in rows]
        (work / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "name": "wiki_split",
        "family": "encoder-decoder",
        "pretrain": "none",
        "max_seq_len": 128,
        "tokenizer": {"vocab_size": 4000},
        "examples": {"paths": [str(work / "validation.jsonl")], "test_paths": [str(work / "test.jsonl")]},
        "finetune": {"task": "translate", "dropout": 0.1, "label_smoothing": 0.1},
        "evaluate": {"max_new_tokens": 120},
    }
