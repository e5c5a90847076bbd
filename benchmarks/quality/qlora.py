"""LoRA on int8 and int4 weights (QLoRA) against LoRA on float32: memory, and the loss on held-out answers.

The published model of 135M parameters is tuned by `parakit finetune --method lora` on 1,000 public instructions, from its
float32 folder and from those that `parakit quantize` made of it: the same rows in the same order, the same number of steps,
all else as the command chooses it, which is gradient checkpointing on quantized weights and none on float32's. Memory is the
peak of the whole process, in all and above a bare `import torch`. Further rows say where the saving comes from: float32 with
checkpointing, and one row at a time on every side.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from benchmarks.harness import DATA, kept_or_measured, run_parakit, run_process, work_folder
from benchmarks.quality.real_models.data import Rows, imported, instructions, write_lines
from benchmarks.registry import NO_TARGET, Figures, benchmark

N_HELD_OUT = 100
SHORT = ("--before-after", "none", "--max-steps", "1")
CHECKPOINTED = (*SHORT, "--gradient-checkpointing", "on")
ROW_BY_ROW = (*SHORT, "--micro-batch-size", "1")
SIDES = {"float32": "smollm2", "int8": "int8", "int4": "int4"}
QUANTIZED = {
    "int8": ("--bits", "8"),
    "int4": (
        "--size-budget",
        "82.7MB",
        "--method",
        "gptq",
        "--tune-steps",
        "192",
        "--calibration",
    ),  # and a text
}


@benchmark("qlora", {
    "*.ratio.peak_memory_mib": ("<= 0.4", "{0}: peak memory of the process over float32's"),
    "*.ratio.above_torch_mib": (NO_TARGET, "{0}: peak memory above `import torch` over float32's"),
    "*.ratio.held_out": ("<= 1.01", "{0}: loss of held-out answers over float32's"),
    "*.ratio.processor_seconds": (NO_TARGET, "{0}: processor seconds of the run over float32's"),
    "*.held_out": (NO_TARGET, "{0}: held-out answers, nats a token"),
    "*.peak_memory_mib": (NO_TARGET, "{0}: peak memory, MiB"),
    "before.*": (NO_TARGET, "before tuning, {0}: held-out answers, nats a token"),
    "checkpointed.*": (NO_TARGET, "{0}: peak memory over float32's with checkpointing"),
    "row_by_row.*": (NO_TARGET, "one row at a time on every side: {0}, peak memory over float32's"),
})  # fmt: skip
def qlora(*, data: Path = DATA, steps: int = 24, work: Path | None = None) -> Figures:
    """`work` keeps what was measured, so that an interrupted run resumes."""
    with work_folder(work) as folder:
        imported("smollm2", folder / "smollm2")
        rows = instructions(data)
        write_lines(folder / "chats.jsonl", rows[N_HELD_OUT:])
        for name, words in QUANTIZED.items():
            if not (folder / name).exists():
                _quantize(folder, rows[N_HELD_OUT:], name, words)
        torch = run_process([sys.executable, "-c", "import torch"]).peak_memory_mib
        figures: Figures = {"torch_mib": torch}
        figures["before"] = {
            side: _kept(folder, f"before-{side}", partial(_held_out, folder / name, rows[:N_HELD_OUT]))[
                "held_out"
            ]
            for side, name in SIDES.items()
        }
        for side in SIDES:
            run = partial(_tuned, folder, side, ("--max-steps", str(steps)), rows[:N_HELD_OUT])
            figures[side] = _kept(folder, side, run)
            figures[side]["above_torch_mib"] = figures[side]["peak_memory_mib"] - torch
        for side in QUANTIZED:
            compared = ("peak_memory_mib", "above_torch_mib", "held_out", "processor_seconds")
            figures[side]["ratio"] = {
                name: figures[side][name] / figures["float32"][name] for name in compared
            }
        for name, words, sides in (
            ("checkpointed", CHECKPOINTED, ("float32",)),  # the others do so by default
            ("row_by_row", ROW_BY_ROW, tuple(SIDES)),
        ):
            peaks = {side: figures[side]["peak_memory_mib"] for side in SIDES}
            for side in sides:
                run = partial(_tuned, folder, side, words, [])
                peaks[side] = _kept(folder, f"{name}-{side}", run)["peak_memory_mib"]
            figures[name] = {side: peaks[side] / peaks["float32"] for side in QUANTIZED}
        return figures


def _kept(folder: Path, name: str, measure: partial[Figures]) -> Figures:
    return kept_or_measured(folder / "rows" / f"{name}.json", measure)


def _quantize(folder: Path, rows: Rows, name: str, words: tuple[str, ...]) -> None:
    """int8 by rounding, and int4 by GPTQ with tuned scales, calibrated on the conversations that the adapter will read."""
    text = folder / "chats.txt"
    text.write_text("\n\n".join(message["content"] for row in rows for message in row["messages"]))
    more = (text,) if words[-1] == "--calibration" else ()
    measured = ("--suites", "none", "--accept-loss", "--text", text, "--n-measured-tokens", "1024")
    run_parakit("quantize", folder / "smollm2", "--output", folder / name, *words, *more, *measured)


def _tuned(folder: Path, side: str, words: tuple[str, ...], held_out: Rows) -> Figures:
    """One run of the command, and the loss of what it wrote."""
    out = folder / f"tuned-{side}{'' if held_out else '-short'}"
    chats = folder / "chats.jsonl"
    done = run_parakit(
        "finetune", folder / SIDES[side], "--method", "lora", "--conversations", chats, "--output", out, "--overwrite",
        "--json", *words, timeout=7200,
    )  # fmt: skip
    kept = ("loss", "steps", "tokens", "plan")
    found = {name: done.figures[name] for name in kept} | {"peak_memory_mib": done.peak_memory_mib}
    found |= {"seconds": done.seconds, "processor_seconds": done.processor_seconds}
    return found | (_held_out(out, held_out) if held_out else {})


def _held_out(folder: Path, rows: Rows) -> Figures:
    """Nats a token of the answers."""
    from parakit.checkpoints import load_model
    from parakit.inference.scoring import log_likelihoods

    model, tokenizer = load_model(folder)
    assert tokenizer is not None
    answers = [(row["messages"][:-1], row["messages"][-1]["content"]) for row in rows]
    n_tokens = sum(len(tokenizer.encode(answer)) for _, answer in answers)
    return {"held_out": -sum(log_likelihoods(model, tokenizer, answers)) / n_tokens}
