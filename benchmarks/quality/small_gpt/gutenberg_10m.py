"""A model of 10 million parameters on 28 books, against a plain GPT of that size at equal time.

`parakit build --size 10m --time 20min`, text, tokenizer, evaluation and report included. The baseline (tokens.py) is
given the build's tokens, and trains until as much time is over as the build took from the start of its process to the
end; its evaluation comes on top. Bits per byte are those of the same held-out texts, all of them.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from benchmarks.harness import (
    DATA,
    kept_or_measured,
    pretraining_figures,
    run_parakit,
    run_process,
    work_folder,
)
from benchmarks.registry import NO_TARGET, Figures, benchmark

VOCAB_SIZE = 8192
SETTINGS = [f"tokenizer.vocab_size={VOCAB_SIZE}", "text.validation_fraction=0.01", "text.test_fraction=0"]


@benchmark("gutenberg_10m", {
    "bits_per_byte_over_baseline": ("<= 0.9", "held-out bits per byte over the baseline's at equal time"),
    "parakit.seconds_over_time": ("<= 1", "seconds of the whole build over the time that it was given"),
    "parakit.bits_per_byte": (NO_TARGET, "held-out bits per byte"),
    "baseline.bits_per_byte": (NO_TARGET, "the baseline's"),
    "parakit.parameters": (NO_TARGET, "parameters"),
    "baseline.parameters": (NO_TARGET, "the baseline's"),
    "parakit.tokens": (NO_TARGET, "tokens that it trained on"),
    "baseline.tokens": (NO_TARGET, "the baseline's"),
})  # fmt: skip
def gutenberg_10m(
    *,
    data: Path = DATA,
    minutes: float = 20.0,
    rows: int = 16,
    learning_rate: float = 1e-3,
    seed: int = 1,
    work: Path | None = None,
) -> Figures:
    """`data` holds the folder gutenberg; `rows` (of 256 tokens a step) and `learning_rate` are the baseline's. `work`
    keeps what is measured.
    """
    with work_folder(work) as folder:
        parakit = kept_or_measured(folder / "parakit.json", lambda: _build(data, folder, minutes, seed))
        files = _token_files(folder / "build" / "shards", folder)
        command: list[str | Path] = [sys.executable, "-m", "benchmarks.quality.small_gpt.tokens", *files]
        options = f"--vocab-size {VOCAB_SIZE} --seconds {parakit['seconds']} --rows {rows} --seed {seed}"
        options += f" --learning-rate {learning_rate}"
        run = run_process([*command, *options.split()], timeout=4 * parakit["seconds"] + 600)
        bits = run.figures["nats"] / math.log(2) / parakit["held_out_bytes"]
    baseline = {
        "bits_per_byte": bits,
        "parameters": run.figures["n_params"],
        "tokens": run.figures["tokens"],
        "steps": run.figures["steps"],
        "train_seconds": run.figures["train_seconds"],
        "seconds": run.seconds,
        "processor_seconds": run.processor_seconds,
        "threads": run.figures["threads"],
    }
    return {
        "bits_per_byte_over_baseline": parakit["bits_per_byte"] / bits,
        "parakit": parakit,
        "baseline": baseline,
    }


def _build(data: Path, folder: Path, minutes: float, seed: int) -> Figures:
    from parakit.tokens.shards import TokenShards

    words = f"--exclude SOURCE.txt --size 10m --time {60 * minutes:g}s --seed {seed} --json".split()
    place: list[str | Path] = ["--builds", folder, "--name", "build", "--text", data / "gutenberg"]
    run = run_parakit("build", *words, *place, "--set", *SETTINGS, timeout=120 * minutes + 600)
    return pretraining_figures(run) | {
        "seconds_over_time": run.seconds / (60 * minutes),
        "held_out_bytes": TokenShards.open(folder / "build" / "shards", "validation").n_bytes,
    }


def _token_files(shards: Path, folder: Path) -> list[Path]:
    """The ids of both splits as .npy files, which need nothing of Parakit's to be read."""
    import numpy as np

    from parakit.tokens.shards import TokenShards

    files = [folder / f"{split}.npy" for split in ("train", "validation")]
    for file in files:
        np.save(file, np.asarray(TokenShards.open(shards, file.stem).token_ids))
    return files
