"""Character model on tinyshakespeare against the small published baseline: time to its loss, loss in its
time.

Three rounds with a seed each. In a round run, back to back: the baseline (characters.py, its whole 2,000
steps), Parakit to a loss of 1.88 with the compile cache empty, the same with the cache warm, and Parakit
for at most the baseline's own time. Parakit is `parakit build`, process start, text, tokenizer and report
included. Both predict every character of the last tenth; Parakit also predicts the end of the document.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, run_parakit, run_process, summary
from benchmarks.registry import NO_TARGET, Figures, benchmark

TEXT = DATA / "tinyshakespeare" / "input.txt"
TARGET_LOSS, BEST_LOSS = 1.88, 1.56
# Rows of 128 characters. A model smaller than the baseline reaches both losses sooner, and so few steps want less momentum than
# long runs. These figures were chosen on another seed than those that are measured.
SHAPE = [
    "--set",
    "max_seq_len=128",
    "tokenizer.kind=char",
    "tokenizer.vocab_size=128",
    "pretrain.learning_rate=0.03",
]
SHAPE += ["pretrain.momentum=0.85", "pretrain.adam_betas=[0.8,0.95]"]
SHORT = [
    "size=0.25m",
    "pretrain.max_steps=290",
    "pretrain.batch_tokens=1024",
    "pretrain.embedding_learning_rate=0.01",
]
LONG = ["size=0.35m", "pretrain.batch_tokens=2048", "pretrain.embedding_learning_rate=0.004"]
SHARE_OF_TIME = 0.97  # of the baseline's time that the build gets, the start of the process included


@benchmark("char_shakespeare", {
    "short_validation_loss_of_the_worst_seed": (f"<= {TARGET_LOSS}", "short run: validation loss of the worst seed"),
    "cold_share_of_baseline_time": ("<= 0.333", "short run, empty compile cache: time over the baseline's"),
    "warm_share_of_baseline_time": ("<= 0.2", "short run, warm compile cache: time over the baseline's"),
    "long_validation_loss": (f"<= {BEST_LOSS}", "run in the baseline's time: validation loss"),
    "long_share_of_baseline_time": ("<= 1.0", "run in the baseline's time: time over the baseline's"),
    "short_parameters": ("<= 820000", "short run: parameters"),
    "baseline_seconds": (NO_TARGET, "plain PyTorch baseline: seconds"),
    "baseline_validation_loss": (NO_TARGET, "plain PyTorch baseline: validation loss"),
})  # fmt: skip
def char_shakespeare(*, data: Path = TEXT, rounds: int = 3) -> Figures:
    """`data` is a UTF-8 text file."""
    with tempfile.TemporaryDirectory() as folder:
        train, validation = _split(data, Path(folder))
        measured = [_round(seed, data, train, validation, Path(folder)) for seed in range(1, rounds + 1)]
    figures: Figures = {name: summary([one[name] for one in measured]) for name in measured[0]}
    figures["short_validation_loss_of_the_worst_seed"] = figures["short_validation_loss"]["high"]
    return figures


def _round(seed: int, data: Path, train: Path, validation: Path, folder: Path) -> dict[str, float]:
    program = [sys.executable, "-m", "benchmarks.quality.small_gpt.characters"]
    baseline = run_process([*program, "--data", data, "--seed", str(seed)])
    cache = folder / f"cache-{seed}"
    cold = _build(f"cold-{seed}", seed, SHORT, train, validation, folder, cache)
    warm = _build(f"warm-{seed}", seed, SHORT, train, validation, folder, cache)
    timed = [*LONG, f"time={SHARE_OF_TIME * baseline.seconds:.0f}s"]
    long = _build(f"long-{seed}", seed, timed, train, validation, folder, cache)
    return {
        "baseline_seconds": baseline.seconds,
        "baseline_validation_loss": baseline.figures["validation_loss"],
        "short_parameters": cold["parameters"],
        "short_validation_loss": max(cold["loss"], warm["loss"]),
        "cold_seconds": cold["seconds"],
        "warm_seconds": warm["seconds"],
        "cold_share_of_baseline_time": cold["seconds"] / baseline.seconds,
        "warm_share_of_baseline_time": warm["seconds"] / baseline.seconds,
        "long_parameters": long["parameters"],
        "long_validation_loss": long["loss"],
        "long_seconds": long["seconds"],
        "long_share_of_baseline_time": long["seconds"] / baseline.seconds,
    }


def _build(
    name: str, seed: int, settings: list[str], train: Path, validation: Path, folder: Path, cache: Path
) -> dict[str, Any]:
    """One `parakit build` in a process of its own; loss in nats per character of the raw text."""
    options = f"--name {name} --builds {folder} --seed {seed} --json --text".split()
    quiet = ["text.test_fraction=0", "text.max_document_chars=10000000", "pretrain.validate_every=1000000"]
    words: list[str | Path] = ["build", *options, train]
    words += [*SHAPE, *quiet, f"text.validation_paths=[{validation}]", *settings]
    environment = {"PARAKIT_CACHE": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    run = run_parakit(*words, environment=environment)
    stage = run.figures["stages"]["pretrain"]
    loss = stage["bits_per_byte"] * math.log(2)  # the text is ASCII: a byte is a character
    return {"seconds": run.seconds, "loss": loss, "parameters": stage["parameters"]}


def _split(data: Path, folder: Path) -> tuple[Path, Path]:
    """The first nine tenths and the last tenth of the characters, as the baseline splits them."""
    text = data.read_text(encoding="utf-8")
    n_train = int(0.9 * len(text))
    train, validation = folder / "train.txt", folder / "validation.txt"
    train.write_text(text[:n_train], encoding="utf-8")
    validation.write_text(text[n_train:], encoding="utf-8")
    return train, validation
