"""A published chat model of 135M parameters tuned on 1,000 public instructions with default settings: what it gains on
others, and what it loses of what it knew.

All weights and LoRA, each for the same number of steps and with no rate given. Before and after: nats a token of the
answers to 100 instructions that were held out, and ARC-Easy by log-likelihood, the same questions each time.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, kept_or_measured, run_parakit, work_folder
from benchmarks.quality.multiple_choice import answered_right
from benchmarks.quality.multiple_choice import questions as drawn_questions
from benchmarks.quality.real_models.data import imported, instructions, write_lines
from benchmarks.registry import NO_TARGET, Figures, benchmark

N_HELD_OUT = 100


@benchmark("real_tuning", {
    "*.held_out_change": ("< 0", "{0}: change of the held-out answers' loss, nats a token"),
    "*.arc_easy_points": (">= -1.0", "{0}: change on ARC-Easy, percentage points"),
    "before.held_out": (NO_TARGET, "published model: held-out answers, nats a token"),
    "before.arc_easy": (NO_TARGET, "published model: ARC-Easy accuracy"),
    "n_questions": (NO_TARGET, "questions of ARC-Easy"),
    "*.steps": (NO_TARGET, "{0}: steps"),
    "*.tokens_per_second": (NO_TARGET, "{0}: tokens a second, one thread"),
})  # fmt: skip
def real_tuning(
    *, data: Path = DATA, steps: int = 24, questions: int = 300, work: Path | None = None
) -> Figures:
    """`work` keeps what was measured, so that an interrupted run resumes."""
    with work_folder(work) as folder:
        base = imported("smollm2", folder / "smollm2")
        rows = instructions(data)
        chats = write_lines(folder / "chats.jsonl", rows[N_HELD_OUT:])
        held_out = rows[:N_HELD_OUT]
        arc = drawn_questions(data, "arc_easy", questions)
        before = kept_or_measured(folder / "before.json", lambda: _measured(base, held_out, arc))
        figures: Figures = {"before": before, "n_questions": len(arc)}
        for method in ("full", "lora"):
            figures[method] = kept_or_measured(
                folder / f"{method}.json",
                partial(_tuned, base, method, chats, steps, folder, held_out, arc),
            )
        for method in ("full", "lora"):
            after = figures[method]
            after["held_out_change"] = after["held_out"] - before["held_out"]
            after["arc_easy_points"] = 100 * (after["arc_easy"] - before["arc_easy"])
        return figures


def _tuned(
    base: Path, method: str, chats: Path, steps: int, folder: Path, held_out: Any, arc: Any
) -> Figures:
    """The figures of one tuning by the command, with nothing set but how long it lasts."""
    out = folder / f"tuned-{method}"
    if not out.exists():
        words = ["--method", method, "--max-steps", str(steps), "--json"]
        done = run_parakit("finetune", base, "--conversations", chats, "--output", out, *words)
        kept = ("loss", "before", "forgetting", "steps", "tokens", "tokens_per_second", "plan")
        found = {name: done.figures[name] for name in kept if name in done.figures}
        found |= {"peak_memory_mib": done.peak_memory_mib, "seconds": done.seconds}
        (folder / f"tuned-{method}.json").write_text(json.dumps(found), encoding="utf-8")
    found = json.loads((folder / f"tuned-{method}.json").read_text(encoding="utf-8"))
    return found | _measured(out, held_out, arc)


def _measured(folder: Path, held_out: Any, arc: Any) -> Figures:
    """Nats a token of the held-out answers, and the share of questions whose likeliest choice is the right one."""
    from parakit.checkpoints import load_model
    from parakit.inference.scoring import log_likelihoods

    model, tokenizer = load_model(folder)
    assert tokenizer is not None
    answers = [(row["messages"][:-1], row["messages"][-1]["content"]) for row in held_out]
    n_tokens = sum(len(tokenizer.encode(answer)) for _, answer in answers)
    nats = -sum(log_likelihoods(model, tokenizer, answers)) / n_tokens
    right = sum(answered_right(model, tokenizer, arc))
    return {"held_out": nats, "arc_easy": right / len(arc), "answer_tokens": n_tokens}
