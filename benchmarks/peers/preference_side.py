"""Parakit's side of `against_trl`: `make FOLDER`, or a task (dpo, reward) on the folder that was made.

The last line is a JSON object: the loss of every step, and pairs per second after the first step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import preference_pairs as pairs
from parakit.alignment.dpo import PreferenceObjective, reference_log_probs
from parakit.alignment.reward_model import RewardObjective
from parakit.checkpoints.model_folder import load_model
from parakit.text.preferences import read_preferences
from parakit.text.records.left_out import LeftOut
from parakit.tokens.preferences import PreferenceSource, encode_rankings
from parakit.training.config import TrainingConfig, resolve_examples
from parakit.training.session import TrainingSession


def main(task: str, folder: Path) -> dict[str, Any]:
    """Train, and return the figures."""
    torch.set_num_threads(1)
    if task == "make":
        pairs.make(folder)
        return {}
    model, tokenizer = load_model(folder / ("lm" if task == "dpo" else "rm"))
    assert tokenizer is not None
    rankings = (ranking for _, ranking in read_preferences(folder / pairs.FILE, LeftOut()))
    data = encode_rankings(tokenizer, rankings, pairs.MAX_SEQ_LEN)
    config = TrainingConfig(
        batch_examples=pairs.N_PAIRS, max_steps=pairs.N_STEPS, optimizer="adamw", learning_rate=pairs.LEARNING_RATE,
        adam_betas=(0.9, 0.999), schedule="constant", warmup_steps=0, compile="off", device="cpu",
    )  # fmt: skip
    plan = resolve_examples(
        config, learning_rate=1, embedding_learning_rate=1, max_seq_len=pairs.MAX_SEQ_LEN,
        n_train_examples=pairs.N_PAIRS,
    )  # fmt: skip
    objective: Any = RewardObjective()
    source = PreferenceSource(data, 0, n_rows_hint=pairs.N_PAIRS)
    if task == "dpo":
        objective = PreferenceObjective("dpo", pairs.KL_COEF)
        source.reference = reference_log_probs(model, source)  # type: ignore[arg-type]  # "lm" is a language model
    losses, started = [], 0.0
    for record in TrainingSession(model, source, objective, plan, folder=None).steps():
        started = started or time.perf_counter()
        losses.append(record.loss)
    seconds = time.perf_counter() - started
    return {"losses": losses, "pairs_per_second": (pairs.N_STEPS - 1) * pairs.N_PAIRS / seconds}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
