"""What do adapters cost in quality? Full tuning, LoRA, prompt and prefix tuning of the primer's base, side by side.

Each method tunes the same base on the same conversations (`parakit finetune --method ...`) for the same number of
tokens, with several seeds, and is asked the primer's suites. LoRA trains 2 % of the parameters at most, and once more
with a rank of 16. Also told: the parameters that train, peak memory, and tokens a second of each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import SHOWN, Figures, report, run_process, summary

METHODS: dict[str, list[str]] = {
    "full": [],
    "lora": [
        *("--method", "lora", "--rank", "2"),
        *("--lora-targets", "query", "value", "output", "gate", "up", "down"),
    ],
    "lora_rank_16": ["--method", "lora", "--rank", "16"],
    "prompt": ["--method", "prompt", "--n-prompt-tokens", "20"],
    "prefix": ["--method", "prefix", "--n-prompt-tokens", "20"],
}


def main(words: list[str]) -> None:
    """Tune with every method and seed, evaluate, and write the result."""
    parser = argparse.ArgumentParser(prog="make bench NAME=adapters", description=__doc__)
    parser.add_argument(
        "--build", type=Path, required=True, help="a build of the primer: pretrain, conversations"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", default="2", help="over the conversations, for every method")
    parser.add_argument("--max-steps", default=None, help="in the place of --epochs")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--n-suite-items", default="250")
    parser.add_argument("--work", type=Path, default=None, help="keep all folders there")
    arguments = parser.parse_args(words)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.methods}
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        for seed in range(arguments.seeds):
            for name in arguments.methods if seed % 2 == 0 else reversed(arguments.methods):
                runs[name].append(_tuned(name, seed, work, arguments))
                print(name, seed, runs[name][-1], file=sys.stderr, flush=True)
    figures: Figures = {
        "seeds": arguments.seeds,
        "length": arguments.max_steps or f"{arguments.epochs} epochs",
    }
    for name, found in runs.items():
        figures[name] = {key: summary([run[key] for run in found]) for key in found[0]}
    bar: dict[str, str] = {f"{name}.suite_mean": SHOWN for name in runs}
    if {"full", "lora"} <= runs.keys():
        pairs = list(zip(runs["full"], runs["lora"], strict=True))
        figures["points_lost_by_lora"] = 100 * statistics.mean(
            a["suite_mean"] - b["suite_mean"] for a, b in pairs
        )
        figures["memory_ratio"] = statistics.median(b["peak_mib"] / a["peak_mib"] for a, b in pairs)
        figures["speed_ratio"] = statistics.median(
            b["tokens_per_second"] / a["tokens_per_second"] for a, b in pairs
        )
        bar |= {"points_lost_by_lora": "<= 1", "lora.trained_share": "<= 0.02"}
        bar |= {"memory_ratio": SHOWN, "speed_ratio": SHOWN}
    report("adapters", figures, bar)


def _tuned(method: str, seed: int, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run and its figures."""
    base, out = arguments.build / "pretrain", work / f"{method}-{seed}"
    length = ["--max-steps", arguments.max_steps] if arguments.max_steps else ["--epochs", arguments.epochs]
    command: list[str | Path] = [sys.executable, "-m", "parakit.cli.main"]
    tune = ["finetune", base, "--conversations", arguments.build / "conversations", "--output", out]
    options = ["--seed", str(seed), "--overwrite", "--json", "--compile", "off", *length, *METHODS[method]]
    run = run_process([*command, *tune, *options], timeout=7200)
    asked = ["evaluate", out, "--suites", "--n-suite-items", arguments.n_suite_items, "--json"]
    suites = run_process([*command, *asked], timeout=7200).figures["suites"]
    whole = _base_parameters(run.figures, method)
    return {
        "suite_mean": statistics.mean(suite["accuracy"] for suite in suites.values()),
        "loss": run.figures["loss"],
        "trained_parameters": run.figures["trained_parameters"],
        "trained_share": run.figures["trained_parameters"] / whole,
        "peak_mib": run.peak_memory_mib,
        "tokens_per_second": run.figures["tokens_per_second"],
    }


def _base_parameters(figures: Figures, method: str) -> int:
    """Parameters of the model without what the method brought."""
    brought = 0 if method == "full" else figures["trained_parameters"]
    return figures["parameters"] - brought
