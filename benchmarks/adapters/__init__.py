"""What do adapters cost in quality? Full tuning, LoRA, prompt and prefix tuning of one base, side by side.

Each method tunes the same base on the same conversations (`parakit finetune --method ...`) for the same number of
tokens, with several seeds, and is asked the primer's suites. LoRA trains 2 % of the parameters at most; other ranks
show what more and less bring. Also told: memory and processor time of each, what the base answers untuned, and of the
first LoRA what must be exact (`fidelity.py`). The base of the published figures is the primer's, read for longer:

    parakit build recipes/primer.yaml --name primer-long --set text.primer.n_documents=75000 pretrain.max_tokens=8_400_000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.adapters.fidelity import fidelity, weights_digest
from benchmarks.harness import SHOWN, Figures, report, run_parakit, summary
from parakit.common.files import read_json, write_json_atomic

LORA = ("--method", "lora", "--lora-targets", "value", "output", "gate", "up", "down")
METHODS: dict[str, list[str]] = {
    "full": [],
    "lora": [*LORA, "--rank", "2"],
    "prompt": ["--method", "prompt", "--n-prompt-tokens", "20"],
    "prefix": ["--method", "prefix", "--n-prompt-tokens", "20"],
    "lora_rank_1": [*LORA, "--rank", "1"],
    "lora_rank_8": [*LORA, "--rank", "8"],
}
MAIN = ("full", "lora")  # with every seed; the others with as many as --other-seeds says


def main(words: list[str]) -> None:
    """Tune with every method and seed, evaluate, and write the result."""
    parser = argparse.ArgumentParser(prog="make bench NAME=adapters", description=__doc__)
    parser.add_argument(
        "--build", type=Path, required=True, help="a build of the primer: pretrain, conversations"
    )
    parser.add_argument("--seeds", type=int, default=5, help="of full tuning and LoRA")
    parser.add_argument("--other-seeds", type=int, default=2, help="of the other methods")
    parser.add_argument("--epochs", default="1", help="over the conversations, for every method")
    parser.add_argument("--max-steps", default=None, help="in the place of --epochs")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--n-suite-items", default="250")
    parser.add_argument(
        "--work", type=Path, default=None, help="keep all there; what is found there is not run again"
    )
    arguments = parser.parse_args(words)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.methods}
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        base = arguments.build / "pretrain"
        before = weights_digest(base)
        for seed in range(max(arguments.seeds, arguments.other_seeds)):
            for name in arguments.methods if seed % 2 == 0 else reversed(arguments.methods):
                if seed < (arguments.seeds if name in MAIN else arguments.other_seeds):
                    runs[name].append(_tuned(name, seed, work, arguments))
                    print(name, seed, runs[name][-1], file=sys.stderr, flush=True)
        figures: Figures = {
            "length": f"{arguments.max_steps} steps" if arguments.max_steps else f"{arguments.epochs} epochs",
            "base": _suites(base, arguments),
        }
        if "lora" in runs:
            figures["exact"] = fidelity(base, work / "lora-0", before)
    report(
        "adapters",
        figures | _summaries(runs),
        _bar(figures, runs),
    )


def _tuned(method: str, seed: int, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run and its figures."""
    out, kept = work / f"{method}-{seed}", work / f"{method}-{seed}.json"
    if kept.is_file():
        found: dict[str, Any] = read_json(kept)
        return found
    length = ["--max-steps", arguments.max_steps] if arguments.max_steps else ["--epochs", arguments.epochs]
    tune = ["finetune", arguments.build / "pretrain", "--conversations", arguments.build / "conversations"]
    where: list[str | Path] = ["--output", out, "--seed", str(seed)]
    how = ["--overwrite", "--json", "--compile", "off", *length, *METHODS[method]]
    run = run_parakit(*tune, *where, *how, timeout=7200)
    trained, brought = run.figures["trained_parameters"], 0 if method == "full" else 1
    figures = _suites(out, arguments) | {
        "loss": run.figures["loss"],
        "trained_parameters": trained,
        "trained_share": trained / (run.figures["parameters"] - brought * trained),
        "peak_mib": run.peak_memory_mib,
        "processor_seconds": run.processor_seconds,
    }
    write_json_atomic(kept, figures)
    return figures


def _suites(model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Accuracy by suite, and their mean."""
    asked = ["evaluate", model, "--suites", "--n-suite-items", arguments.n_suite_items, "--json"]
    suites = run_parakit(*asked, timeout=7200).figures["suites"]
    accuracies = {name: suite["accuracy"] for name, suite in suites.items()}
    return {"suite_mean": statistics.mean(accuracies.values()), **accuracies}


def _summaries(runs: dict[str, list[dict[str, Any]]]) -> Figures:
    """Each method's figures, and LoRA against full tuning seed by seed."""
    figures: Figures = {
        name: {key: summary([run[key] for run in found]) for key in found[0]} for name, found in runs.items()
    }
    if set(MAIN) <= runs.keys():
        pairs = list(zip(runs["full"], runs["lora"], strict=True))
        lost = [100 * (full["suite_mean"] - lora["suite_mean"]) for full, lora in pairs]
        figures["points_lost_by_lora"] = summary(lost)
        figures["mean_points_lost_by_lora"] = round(statistics.mean(lost), 6)  # of shares of whole questions
        for key in ("peak_mib", "processor_seconds"):
            figures[f"{key}_ratio"] = summary([lora[key] / full[key] for full, lora in pairs])
    return figures


def _bar(figures: Figures, runs: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    bar = {"base.suite_mean": SHOWN} | {f"{name}.suite_mean": SHOWN for name in runs}
    if "lora" in runs:
        bar |= {"lora.trained_share": "<= 0.02", "exact.base_tensors_changed": "== 0"}
        bar |= {"exact.merged_difference": "<= 1e-5"}
    for name in ("peft_difference", "back_difference"):
        if name in figures.get("exact", {}):
            bar[f"exact.{name}"] = "<= 1e-4"
    if set(MAIN) <= runs.keys():
        bar |= {"points_lost_by_lora": "<= 1", "mean_points_lost_by_lora": "<= 1"}
        bar |= {"peak_mib_ratio": SHOWN, "processor_seconds_ratio": SHOWN}
    return bar
