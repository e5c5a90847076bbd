"""Two processes of one thread each against one process of two threads: the same losses, and the time of a step.

The published model of 135M parameters by the command line, `torchrun --nproc-per-node 2` and the layout `data` or `shard`
on one side: pre-training on a public book, fine-tuning of all weights and LoRA on public instructions, DPO on public
preferences, distillation into a student of a third of the layers. Losses are compared step by step; the time of a step is the
median without the first.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import DATA, kept_or_measured, run_parakit, run_process, work_folder
from benchmarks.quality.real_models.data import imported, instructions, write_lines
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.published_models.published_dpo import FILE as PREFERENCES

N_PROCESSES, N_CHATS, N_PAIRS, SEQ_LEN, ROWS = 2, 120, 40, 64, 4
BOOK = "gutenberg/The-Adventures-of-Sherlock-Holmes_1661.txt.gz"
COMMON = f"--seq-len {SEQ_LEN} --validate-every 100000 --precision float32 --compile off --json".split()
LAYOUTS = ("data", "shard")
TOKENS = ("--batch-tokens", str(ROWS * SEQ_LEN))
FINETUNE = ("finetune", "lm", "--conversations", "chats.jsonl", "--before-after", "none", *TOKENS)
PREFERRED = ("--method", "dpo", "--preferences", "pairs.json", "--batch-examples", str(ROWS))
COMMANDS: Mapping[str, Sequence[str]] = {
    "pretrain": ("pretrain", "shards", "--model", "lm", *TOKENS),
    "finetune": FINETUNE,
    "lora": (*FINETUNE, "--method", "lora"),
    "dpo": ("align", "lm", *PREFERRED),
    "distill": ("distill", "lm", "--conversations", "chats.jsonl", "--keep-layers", "10", *TOKENS),
}


@benchmark("processes", {
    "*.*.largest_difference": ("<= 1e-5", "{0}, {1}: largest relative difference of a step's loss"),
    "*.*.time_over_one_process": (NO_TARGET, "{0}, {1}: time of a step over one process's with two threads"),
    "*.one.step_seconds": (NO_TARGET, "{0}: seconds a step, one process with two threads"),
})  # fmt: skip
def processes(
    *,
    data: Path = DATA,
    steps: int = 50,
    commands: tuple[str, ...] = tuple(COMMANDS),
    work: Path | None = None,
) -> Figures:
    """`work` keeps what was measured, so that an interrupted run resumes."""
    if steps < 2:
        raise SystemExit(f"--steps {steps}: the first step is left out of the median; at least 2 are needed")
    with work_folder(work) as folder:
        _prepare(folder, data)
        figures: Figures = {}
        for name in commands:
            measured = {
                layout: kept_or_measured(
                    folder / "rows" / f"{name}-{layout}-{steps}.json",
                    partial(_run, folder, name, layout, steps),
                )
                for layout in ("one", *LAYOUTS)
            }
            figures[name] = {layout: _compared(run, measured["one"]) for layout, run in measured.items()}
        return figures


def _prepare(folder: Path, data: Path) -> None:
    imported("smollm2", folder / "lm")
    write_lines(folder / "chats.jsonl", instructions(data)[:N_CHATS])
    rankings = json.loads(gzip.decompress((data / PREFERENCES).read_bytes()))
    (folder / "pairs.json").write_text(json.dumps(rankings[:N_PAIRS]), encoding="utf-8")
    if not (folder / "shards").exists():
        (folder / "book.txt").write_bytes(gzip.decompress((data / BOOK).read_bytes()))
        run_parakit("text", folder / "book.txt", "--output", folder / "text")
        run_parakit("tokenizer", "encode", folder / "lm", folder / "text", "--output", folder / "shards")


def _run(folder: Path, name: str, layout: str, steps: int) -> Figures:
    """One run of the command; losses and seconds of its steps."""
    from parakit.training.metrics import read_metrics

    command, *words = [str(folder / word) if (folder / word).exists() else word for word in COMMANDS[name]]
    out = folder / f"{name}-{layout}"
    options = [*words, *COMMON, "--max-steps", str(steps), "--output", str(out), "--overwrite"]
    if layout == "one":
        run_parakit(command, *options, environment={"OMP_NUM_THREADS": str(N_PROCESSES)})
    else:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(N_PROCESSES), "-m"]
        run_process(
            [*torchrun, "parakit", command, *options, "--parallel", layout],
            environment={"OMP_NUM_THREADS": "1"},
        )
    taken = [one for one in read_metrics(out / "training" / "metrics.jsonl") if one["kind"] == "step"]
    return {"losses": [one["loss"] for one in taken], "seconds": [one["seconds"] for one in taken]}


def _compared(run: Figures, one: Figures) -> Figures:
    differences = [abs(a - b) / abs(b) for a, b in zip(run["losses"], one["losses"], strict=True)]
    seconds, seconds_of_one = (statistics.median(side["seconds"][1:]) for side in (run, one))
    figures: Figures = {"step_seconds": seconds, "n_steps": len(differences), "last_loss": run["losses"][-1]}
    if run is one:
        return figures
    return figures | {
        "largest_difference": max(differences),
        "time_over_one_process": seconds / seconds_of_one,
    }
