"""Does pre-training help? SST-2 and CoLA with an encoder pre-trained on books, the same encoder without, and words alone.

An encoder learns masked tokens on Project Gutenberg books (`parakit build`), then each task (`parakit finetune --task
classify`), with several seeds; the same shape and tokenizer with fresh weights does the same; a logistic regression
over words and word pairs has neither order nor pre-training. SST-2: accuracy on the test split. CoLA: Matthews
correlation on the in-domain and the out-of-domain development sets.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.encoder_tasks.bag_of_words import bag_of_words
from benchmarks.encoder_tasks.data import TASKS, write_tasks
from benchmarks.harness import ROOT, SHOWN, Figures, report, run_process, summary

# Of both starts. Pre-trained embeddings are wide, and move too little at the rate of the matrices' share.
TUNING = "--dropout 0.2 --embedding-learning-rate 0.006"


def main(words: list[str]) -> None:
    """Pre-train once, tune on both tasks from both starts, and write the result."""
    home = Path(os.environ.get("PARAKIT_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(prog="make bench NAME=encoder_tasks", description=__doc__)
    parser.add_argument("--data", type=Path, default=home)
    parser.add_argument("--time", default="20min", help="for the pre-training build")
    parser.add_argument("--size", default="2m")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--encoder", type=Path, default=None, help="a pre-trained folder, instead of building one"
    )
    parser.add_argument("--work", type=Path, default=None, help="keep all folders there")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        write_tasks(arguments.data, work)
        figures: Figures = {"seeds": arguments.seeds, "epochs": arguments.epochs, "tuning": TUNING}
        encoder = arguments.encoder or _pretrained(arguments, work)
        figures["pretraining"] = _pretraining(encoder)
        starts = {"pretrained": encoder, "fresh": _fresh(encoder, work / "fresh")}
        for task in TASKS:
            figures[task] = {
                start: _tuned(path, task, f"{start}-{task}", work, arguments)
                for start, path in starts.items()
            }
            figures[task]["bag_of_words"] = bag_of_words(work, task)
            figures[task]["gain"] = figures[task]["pretrained"]["median"] - figures[task]["fresh"]["median"]
            print(task, figures[task], file=sys.stderr, flush=True)
    bar = {f"{task}.gain": "> 0" for task in TASKS}
    for task in TASKS:
        bar |= {f"{task}.{side}": SHOWN for side in ("pretrained", "fresh", "bag_of_words")}
    report("encoder_tasks", figures, bar)


def _pretraining(encoder: Path) -> Figures:
    """How the encoder was pre-trained, as its lineage tells."""
    from parakit.common.artifacts import open_artifact

    found = open_artifact(encoder, "model").lineage["result"]
    told = ("parameters", "tokens", "loss", "loss_unit", "seconds", "tokens_per_second", "compiled")
    return {name: found[name] for name in told}


def _pretrained(arguments: argparse.Namespace, work: Path) -> Path:
    """An encoder that has read the books."""
    options = f"--family encoder --size {arguments.size} --time {arguments.time} --exclude SOURCE.txt --json"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "parakit.cli.main",
        "build",
        *options.split(),
        "--builds",
        work,
    ]
    run_process([*command, "--text", arguments.data / "gutenberg"], timeout=7200)
    return next(path.parent for path in work.glob("*/pretrain/config.json"))


def _fresh(encoder: Path, path: Path) -> Path:
    """The same shape and tokenizer, with weights that have learned nothing."""
    from parakit.checkpoints import load_model, save_model
    from parakit.common.artifacts import Lineage
    from parakit.common.seeds import seed_everything

    model, tokenizer = load_model(encoder)
    seed_everything(0)
    model.reset()
    return save_model(model, tokenizer, path, Lineage("model", {"stage": "fresh"}, seed=0), overwrite=True)


def _tuned(start: Path, task: str, name: str, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The task's figure for every seed: median, lowest, highest; the out-of-domain ones beside them."""
    from parakit.checkpoints import load_model
    from parakit.evaluation.examples import evaluate_examples
    from parakit.text.examples import read_examples

    by_set: dict[str, list[float]] = {}
    for seed in range(arguments.seeds):
        out = work / f"{name}-{seed}"
        options = f"--task classify --epochs {arguments.epochs} --seed {seed} {TUNING} --overwrite --json"
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "parakit.cli.main",
            "finetune",
            start,
            *options.split(),
        ]
        command += ["--output", out, "--examples", work / f"{task}.train.jsonl"]
        run_process([*command, "--validation-examples", work / f"{task}.validation.jsonl"])
        model, tokenizer = load_model(out)
        assert tokenizer is not None
        for split in TASKS[task].measured:
            rows = [row for _, row in read_examples(work / f"{task}.{split}.jsonl", "classify")]
            value = evaluate_examples(model, tokenizer, "classify", rows).value(TASKS[task].figure)
            by_set.setdefault(split, []).append(value)
    main_set, *others = TASKS[task].measured
    return {**summary(by_set[main_set]), **{split: statistics.median(by_set[split]) for split in others}}
