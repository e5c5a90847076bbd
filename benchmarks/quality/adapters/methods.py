"""What do adapters cost in quality? Full tuning, LoRA, prompt and prefix tuning of one base, side by side.

Each method tunes the same base on the same conversations (`parakit finetune --method ...`) for the same number of
tokens, with several seeds, and answers the primer's suites. LoRA trains 2 % of the parameters at most; other ranks
show what more and less bring. Also measured: memory and processor time of each, what the base answers untuned, and of the
first LoRA what must be exact (`fidelity.py`). The base of the published figures is the primer's, trained for longer:

    parakit build recipes/primer.yaml --name primer-long --set text.primer.n_documents=75000 pretrain.max_tokens=8_400_000
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import kept_or_measured, run_parakit, summary, work_folder
from benchmarks.quality.adapters.fidelity import fidelity, weights_digest
from benchmarks.registry import NO_TARGET, Figures, benchmark

LORA = ("--method", "lora", "--lora-targets", "value", "output", "gate", "up", "down")
METHODS: dict[str, list[str]] = {
    "full": [],
    "lora": [*LORA, "--rank", "2"],
    "prompt": ["--method", "prompt", "--n-prompt-tokens", "20"],
    "prefix": ["--method", "prefix", "--n-prompt-tokens", "20"],
    "lora_rank_1": [*LORA, "--rank", "1"],
    "lora_rank_8": [*LORA, "--rank", "8"],
}
MAIN = ("full", "lora")  # with every seed


@dataclass(frozen=True)
class Length:
    """How long every method trains: passes over the conversations, or steps instead."""

    epochs: float = 1.0
    max_steps: int | None = None

    def flags(self) -> list[str]:
        """For `parakit finetune`."""
        return ["--max-steps", str(self.max_steps)] if self.max_steps else ["--epochs", str(self.epochs)]


@benchmark("adapters", {
    "base.suite_mean": (NO_TARGET, "the base without fine-tuning: mean accuracy on the suites"),
    "full.suite_mean": (NO_TARGET, "full fine-tuning: mean accuracy on the suites"),
    "lora.suite_mean": (NO_TARGET, "LoRA of rank 2: mean accuracy on the suites"),
    "prompt.suite_mean": (NO_TARGET, "prompt tuning: mean accuracy on the suites"),
    "prefix.suite_mean": (NO_TARGET, "prefix tuning: mean accuracy on the suites"),
    "lora_rank_8.suite_mean": (NO_TARGET, "LoRA of rank 8: mean accuracy on the suites"),
    "points_lost_by_lora": ("<= 1", "LoRA of rank 2: percentage points lost against full fine-tuning, median"),
    "mean_points_lost_by_lora": ("<= 1", "LoRA of rank 2: percentage points lost against full fine-tuning, mean"),
    "lora.trained_share": ("<= 0.02", "LoRA of rank 2: share of the parameters that are trained"),
    "exact.base_tensors_changed": ("== 0", "tensors of the base that changed"),
    "exact.merged_difference": ("<= 1e-5", "largest difference of the merged model's logits"),
    "exact.peft_difference": ("<= 1e-4", "largest difference of the logits in peft"),
    "exact.back_difference": ("<= 1e-4", "largest difference after a round trip through peft"),
    "peak_mib_ratio": (NO_TARGET, "LoRA: peak memory over full fine-tuning's"),
    "processor_seconds_ratio": (NO_TARGET, "LoRA: processor time over full fine-tuning's"),
})  # fmt: skip
def adapters(
    *,
    build: Path,
    seeds: int = 5,
    other_seeds: int = 2,
    length: Length = Length(),
    methods: tuple[str, ...] = tuple(METHODS),
    n_suite_items: int = 250,
    work: Path | None = None,
) -> Figures:
    """`build` has the folders pretrain and conversations. Full fine-tuning and LoRA run with every seed, the other methods
    with `other_seeds`. `work` keeps the results of each run.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in methods}
    base = build / "pretrain"
    with work_folder(work) as folder:
        before = weights_digest(base)
        for seed in range(max(seeds, other_seeds)):
            for name in methods if seed % 2 == 0 else reversed(methods):
                if seed < (seeds if name in MAIN else other_seeds):
                    path = folder / f"{name}-{seed}.json"
                    run = partial(_finetune, name, seed, build, folder, length, n_suite_items)
                    runs[name].append(kept_or_measured(path, run))
                    print(name, seed, runs[name][-1], file=sys.stderr, flush=True)
        figures: Figures = {"length": str(length), "base": _suites(base, n_suite_items)}
        if "lora" in runs:
            figures["exact"] = fidelity(base, folder / "lora-0", before)
    return figures | _summaries(runs)


def _finetune(method: str, seed: int, build: Path, work: Path, length: Length, n_suite_items: int) -> Figures:
    """One run and its figures."""
    out = work / f"{method}-{seed}"
    words: list[str | Path] = [
        "finetune",
        build / "pretrain",
        "--conversations",
        build / "conversations",
        "--output",
        out,
    ]
    options = ["--seed", str(seed), "--overwrite", "--json", "--compile", "off", *length.flags()]
    run = run_parakit(*words, *options, *METHODS[method], timeout=7200)
    trained, added = run.figures["trained_parameters"], 0 if method == "full" else 1
    return _suites(out, n_suite_items) | {
        "loss": run.figures["loss"],
        "trained_parameters": trained,
        "trained_share": trained / (run.figures["parameters"] - added * trained),
        "peak_mib": run.peak_memory_mib,
        "processor_seconds": run.processor_seconds,
    }


def _suites(model: Path, n_items: int) -> Figures:
    """Accuracy by suite, and their mean."""
    words: list[str | Path] = ["evaluate", model, "--suites", "--n-suite-items", str(n_items), "--json"]
    suites = run_parakit(*words, timeout=7200).figures["suites"]
    accuracies = {name: suite["accuracy"] for name, suite in suites.items()}
    return {"suite_mean": statistics.mean(accuracies.values()), **accuracies}


def _summaries(runs: dict[str, list[Figures]]) -> Figures:
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
