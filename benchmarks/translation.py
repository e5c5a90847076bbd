"""Sequence to sequence on real data, from scratch: Multi30k English to German, and WikiSplit split-and-rephrase.

Each is one recipe and one `parakit build`: tokenizer, training, and the measure on a test set that nothing else met. The
recipes are in this file; `--task` chooses one, `--write FILE` only writes its recipe, to be built by hand. WikiSplit's
public training part is not among our data: its 5,000 validation pairs are trained on, its 5,000 test pairs are the test.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, SHOWN, Figures, report, run_parakit
from parakit.common.files import read_json

BARS = {"multi30k": {"bleu": ">= 25", "minutes": "<= 60"}, "wiki_split": {"bleu": SHOWN, "minutes": SHOWN}}


def main(words: list[str]) -> None:
    """Build one task's recipe and write its result."""
    parser = argparse.ArgumentParser(prog="make bench NAME=translation", description=__doc__)
    parser.add_argument("--task", choices=sorted(BARS), default="multi30k")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--epochs", type=float, default=None)
    parser.add_argument("--size", default=None)
    parser.add_argument("--write", type=Path, default=None, help="write the recipe there and do not build")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        recipe = {"multi30k": _multi30k, "wiki_split": _wiki_split}[arguments.task](arguments.data, work)
        recipe["size"] = arguments.size or recipe["size"]
        recipe["finetune"]["epochs"] = arguments.epochs or recipe["finetune"]["epochs"]
        text = json.dumps(recipe, indent=1)
        if arguments.write:
            arguments.write.write_text(text, encoding="utf-8")
            return
        (work / "recipe.yaml").write_text(text, encoding="utf-8")  # JSON is YAML
        run = run_parakit("build", "--json", "--builds", work, work / "recipe.yaml", timeout=7200)
        results = read_json(work / arguments.task / "evaluate" / "results.json")
    stage = run.figures["stages"]["finetune"]
    found = {row["name"]: row for row in results["task"]["figures"]}
    figures: Figures = {
        "minutes": run.seconds / 60,
        "training_minutes": stage["training_seconds"] / 60,
        "bleu": found["bleu"]["value"],
        "bleu_interval": [found["bleu"]["low"], found["bleu"]["high"]],
        "bleu_signature": found["bleu"]["note"],
        "chrf": found["chrf"]["value"],
        "chrf_signature": found["chrf"]["note"],
        "parameters": stage["parameters"],
        "tokens_per_second": stage["tokens_per_second"],
        "epochs": recipe["finetune"]["epochs"],
        "peak_memory_mib": run.peak_memory_mib,
        "recipe": {
            name: value for name, value in recipe.items() if name != "examples"
        },  # its paths are of here
        "samples": results["task"]["samples"][:6],
    }
    shown = {"chrf": SHOWN, "parameters": SHOWN}
    report(f"translation_{arguments.task}", figures, BARS[arguments.task] | shown)


def _multi30k(data: Path, work: Path) -> dict[str, Any]:
    """29,000 captions, English to German; BLEU on test_2016."""

    def pair(split: str) -> list[str]:
        return [f"{data}/multi30k/{split}.en.gz:{data}/multi30k/{split}.de.gz"]

    return {
        "name": "multi30k",
        "family": "encoder-decoder",
        "objective": "none",
        "task": "translate",
        "size": "3m",
        "max_seq_len": 80,
        "tokenizer": {"vocab_size": 6000},
        "examples": {
            "paths": pair("train"),
            "validation_paths": pair("val"),
            "test_paths": pair("test_2016_flickr"),
        },
        "finetune": {"epochs": 14, "dropout": 0.1, "label_smoothing": 0.1},
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
        "objective": "none",
        "task": "translate",
        "size": "2m",
        "max_seq_len": 128,
        "tokenizer": {"vocab_size": 4000},
        "examples": {"paths": [str(work / "validation.jsonl")], "test_paths": [str(work / "test.jsonl")]},
        "finetune": {"epochs": 12, "dropout": 0.1, "label_smoothing": 0.1},
        "evaluate": {"max_new_tokens": 120},
    }
