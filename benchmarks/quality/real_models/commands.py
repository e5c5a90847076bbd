"""Two small published models (SmolLM2-135M-Instruct, all-MiniLM-L6-v2) through every command, each against its peer on the
same weights and data.

Every row runs the command as a user does and compares what it printed or wrote with transformers, peft, trl or
sentence-transformers: tensors, text, losses of three steps of AdamW at a constant rate in float32, vectors. All rows of the
data are in every step, so that no order can differ. Initial weights that a command draws (adapter, new head) are taken
from a run of one step at a rate of 1e-12.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.harness import DATA, kept_or_measured, work_folder
from benchmarks.quality.real_models.chat_rows import CHAT_ROWS
from benchmarks.quality.real_models.session import Session
from benchmarks.quality.real_models.tuning_rows import TUNING_ROWS
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.progress import log

ROWS: dict[str, Callable[[Session], Figures]] = CHAT_ROWS | TUNING_ROWS


@benchmark("real_models", {
    "import.*.missing_or_changed": ("== 0", "import, {0}: tensors that differ from the publisher's"),
    "import.*.tensors": (NO_TARGET, "import, {0}: tensors compared"),
    "generate.*.differs": ("== 0", "generate --prompting {0}: greedy text other than transformers'"),
    "generate.auto.wrong_answer": ("== 0", "generate: the capital of France is not Paris"),
    "chat.differs": ("== 0", "chat: greedy answers of two turns other than transformers'"),
    "show.*.difference": ("== 0", "show, {0}: parameters more or fewer than transformers counts"),
    "doctor.false_alarms": ("== 0", "doctor: false alarms on conversations, pairs, prompts and a book"),
    "evaluate.largest_difference": ("<= 1e-4", "evaluate: loss of a text against transformers"),
    "finetune_full.largest_difference": ("<= 1e-4", "finetune, all weights: losses against transformers"),
    "finetune_lora.largest_difference": ("<= 1e-4", "finetune, LoRA: losses against peft"),
    "merge.largest_difference_of_weights": ("<= 1e-6", "merge: weights against peft's merge"),
    "align_reward.largest_difference": ("<= 1e-4", "align reward: losses against trl's formula in transformers"),
    "align_dpo.largest_difference": ("<= 1e-4", "align dpo: losses against trl"),
    "align_grpo.largest_difference": ("<= 1e-4", "align grpo: losses against trl on given completions"),
    "distill.largest_difference": ("<= 1e-4", "distill: losses against KL on transformers' logits"),
    "pretrain.largest_difference": ("<= 1e-4", "pretrain, a book: losses against transformers"),
    "finetune_classifier.largest_difference": ("<= 1e-4", "finetune, MiniLM with a head: losses against transformers"),
    "export.*.largest_difference": ("== 0", "export, {0}: outputs in transformers against the publisher's"),
    "predict.largest_difference": ("<= 1e-5", "predict, MiniLM: vectors against sentence-transformers"),
})  # fmt: skip
def real_models(
    *, rows: tuple[str, ...] = tuple(ROWS), data: Path = DATA, work: Path | None = None
) -> Figures:
    """`work` keeps what was measured, row by row, so that an interrupted run resumes."""
    figures: Figures = {}
    with work_folder(work) as folder:
        session = Session(folder, data)
        for name in rows:
            figures[name] = kept_or_measured(folder / f"row-{name}.json", partial(_row, session, name))
            log(f"{name}: {figures[name]}")
    return figures


def _row(session: Session, name: str) -> Figures:
    """The row's figures, and the seconds that its commands took."""
    session.seconds, started = 0.0, time.perf_counter()
    found = ROWS[name](session)
    return found | {
        "seconds_of_commands": round(session.seconds, 1), "seconds": round(time.perf_counter() - started, 1)
    }  # fmt: skip
