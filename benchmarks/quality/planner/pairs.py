"""The pairs of a model and a method that the planner is measured on: the command of each, and the run that is planned.

All run in float32, without compiled code: `parakit pretrain`, `finetune`, `align`, `distill` and `bench`, as a user calls
them, on public text, conversations and preferences. What a plan needs of the data (positions of a step, predicted ones) is
counted, not predicted: it is known before a run starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import run_parakit
from benchmarks.quality.real_models.data import imported, instructions, pairs, write_lines
from parakit.checkpoints.loading import read_config
from parakit.model.config import ModelConfig
from parakit.planning.runs import RunMethod, RunSpec

SIZES, REAL = ("1m", "5m", "25m"), "135m"
VOCABULARY, WINDOW = 4096, 512
STEPS, TEXT_CHARS = 4, 250_000
COMMON = (
    "--compile",
    "off",
    "--precision",
    "float32",
    "--overwrite",
    "--json",
    "--seed",
    "0",
    "--validate-every",
    "1000",
)
TUNED = (*COMMON, "--before-after", "none", "--max-steps", str(STEPS))
N_ROLLOUTS, N_NEW, GROUP = 16, 32, 8
PROMPT_TOKENS, BENCH_TOKENS = 128, 48


@dataclass(frozen=True)
class Pair:
    """One model and one method. `spec` makes the plan from the model's config and the step's rows."""

    name: str
    method: RunMethod
    words: tuple[str | Path, ...]
    config: Callable[[], ModelConfig]
    settings: dict[str, Any]
    teacher: Path | None = None

    def spec(self, n_tokens: float, n_predicted: float, most_tokens: int) -> tuple[RunSpec, RunSpec]:
        """The run as its time is planned, with the mean of its steps, and as its memory is, with the largest micro-batch."""
        teacher = read_config(self.teacher) if self.teacher else None
        settings = dict(self.settings)
        n_rows = settings.pop("n_rows")
        texts = 2 if self.method == "dpo" else 1
        usual = RunSpec(
            self.config(), self.method, n_rows=n_rows, micro_batch_size=settings.pop("micro_batch_size", n_rows),
            seq_len=max(1, round(n_tokens / n_rows / texts)), counted_share=n_predicted / max(1.0, n_tokens), teacher=teacher,
            **settings,
        )  # fmt: skip
        longest = max(1, round(most_tokens / usual.micro_batch_size / texts))
        return usual, usual.changed(seq_len=longest)


def prepare(folder: Path, data: Path) -> None:
    """Text, tokenizer, shards, conversations, preferences, prompts, and the published model."""
    if (folder / "ready").exists():
        return
    corpus, tokenizer = folder / "corpus", folder / "tokenizer"
    text = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    (folder / "text.txt").write_text(text[:TEXT_CHARS], encoding="utf-8")  # its last part is validated on
    run_parakit("text", folder / "text.txt", "--output", corpus, "--overwrite")
    size = ("--vocab-size", str(VOCABULARY))
    run_parakit("tokenizer", "train", corpus, *size, "--output", tokenizer, "--overwrite")
    shards = ("--output", folder / "shards", "--overwrite")
    run_parakit("tokenizer", "encode", tokenizer, corpus, *shards)
    rows = instructions(data)[:300]
    write_lines(folder / "chats.jsonl", rows)
    write_lines(folder / "prompts.jsonl", rows[:80])
    write_lines(folder / "pairs.jsonl", pairs(data, 120))
    imported("smollm2", folder / REAL)
    if not (folder / "int4" / "config.json").exists():
        how = ("--bits", "4", "--method", "rounding", "--suites", "none", "--accept-loss")
        measured = ("--n-measured-tokens", "512", "--text", folder / "text.txt")
        run_parakit("quantize", folder / REAL, "--output", folder / "int4", *how, *measured)
    (folder / "ready").write_text("")


def all_pairs(folder: Path, sizes: Sequence[str] = (*SIZES, REAL)) -> Iterator[Pair]:
    """In the order in which they run: later ones tune the models that earlier ones made. `sizes`, ascending: of new models,
    and the published one's for its pairs.
    """
    new = [size for size in sizes if size != REAL]
    for size in new:
        made = folder / f"pretrain-{size}"
        yield _pretrain(folder, size, made)
    for size in sizes:
        base = folder / REAL if size == REAL else folder / f"pretrain-{size}"
        rows = 4 if size == REAL else 16
        yield _finetune(folder, size, base, "full", rows)
        yield _finetune(folder, size, base, "lora", rows)
        chat = base if size == REAL else folder / f"full-{size}"
        yield _dpo(folder, size, chat, 4 if size == REAL else 8)
        yield _grpo(folder, size, chat)
        yield _inference(size, base)
    if REAL in sizes:
        yield _qlora(folder)
    for number, student in enumerate(new):
        yield _distill(folder, student, folder / f"pretrain-{new[min(number + 1, len(new) - 1)]}")
    if REAL in sizes:
        yield _pretrain_large(folder)


def _pretrain(folder: Path, size: str, out: Path, steps: int = STEPS, tokens: int = 2048) -> Pair:
    words = (
        "pretrain", folder / "shards", "--tokenizer", folder / "tokenizer", "--size", size, "--max-seq-len", str(WINDOW),
        "--batch-tokens", str(tokens), "--max-steps", str(steps), "--output", out, *COMMON,
    )  # fmt: skip
    settings = {"n_rows": tokens // WINDOW, "optimizer": "muon"}
    return Pair(f"pretrain {size}", "pretrain", words, lambda: read_config(out), settings)


def _pretrain_large(folder: Path) -> Pair:
    """As many parameters as the published model has, two rows."""
    return _pretrain(folder, REAL, folder / f"pretrain-{REAL}", 3, 2 * WINDOW)


def _finetune(folder: Path, size: str, base: Path, method: RunMethod, rows: int) -> Pair:
    out = folder / f"{method}-{size}"
    words = (
        "finetune", base, "--method", method, "--conversations", folder / "chats.jsonl", "--seq-len", "128",
        "--batch-tokens", str(128 * rows), "--optimizer", "adamw", "--output", out, *TUNED,
    )  # fmt: skip
    settings = {"n_rows": rows, "optimizer": "adamw"}
    return Pair(f"{method} {size}", method, words, lambda: read_config(base), settings)


def _qlora(folder: Path) -> Pair:
    words = (
        "finetune", folder / "int4", "--method", "lora", "--conversations", folder / "chats.jsonl", "--seq-len", "128",
        "--batch-tokens", "512", "--output", folder / "qlora", *TUNED,
    )  # fmt: skip
    settings = {"n_rows": 4, "optimizer": "adamw", "bits": 4, "checkpointing": True}
    return Pair(f"qlora {REAL}", "qlora", words, lambda: read_config(folder / REAL), settings)


def _dpo(folder: Path, size: str, chat: Path, rows: int) -> Pair:
    words = (
        "align", chat, "--method", "dpo", "--preferences", folder / "pairs.jsonl", "--batch-examples", str(rows),
        "--optimizer", "adamw", "--output", folder / f"dpo-{size}", *TUNED,
    )  # fmt: skip
    return Pair(
        f"dpo {size}", "dpo", words, lambda: read_config(chat), {"n_rows": rows, "optimizer": "adamw"}
    )


def _grpo(folder: Path, size: str, chat: Path) -> Pair:
    words = (
        "align", chat, "--method", "grpo", "--prompts", folder / "prompts.jsonl", "--reward", "length=20",
        "--rollout-prompts", str(N_ROLLOUTS // GROUP), "--group-size", str(GROUP), "--minibatches", "1",
        "--max-new-tokens", str(N_NEW), "--optimizer", "adamw", "--output", folder / f"grpo-{size}",
        *TUNED[:-1], "3",
    )  # fmt: skip
    settings = {"n_rows": N_ROLLOUTS, "optimizer": "adamw", "n_new_tokens": N_NEW, "group_size": GROUP}
    return Pair(f"grpo {size}", "grpo", words, lambda: read_config(chat), settings)


def _distill(folder: Path, student: str, teacher: Path) -> Pair:
    name = f"distill {student}"
    out = folder / f"distill-{student}"
    alone = teacher.name == f"pretrain-{student}"
    how = ("--keep-layers", "3") if alone else ("--size", student)
    words = (
        "distill", teacher, *how, "--shards", folder / "shards", "--batch-tokens", "2048", "--max-steps", str(STEPS),
        "--output", out, *COMMON,
    )  # fmt: skip
    settings = {"n_rows": 2048 // WINDOW, "optimizer": "muon"}
    return Pair(name, "distill", words, lambda: read_config(out), settings, teacher)


def _inference(size: str, model: Path) -> Pair:
    words = (
        "bench", model, "--prompt-tokens", str(PROMPT_TOKENS), "--new-tokens", str(BENCH_TOKENS), "--dtype", "float32",
        "--json",
    )  # fmt: skip
    return Pair(
        f"inference {size}", "inference", words, lambda: read_config(model), {"n_rows": 1, "bits": 32}
    )
