"""trl's side of `against_trl`: its DPOTrainer and RewardTrainer on the same folders and pairs. Imports nothing of
Parakit's. What the reference says is computed once before training, as on our side.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-not-found]  # the peer's own
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl import (  # type: ignore[import-not-found]  # as is this
    DPOConfig,
    DPOTrainer,
    RewardConfig,
    RewardTrainer,
)


class Clock(TrainerCallback):
    """When steps ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended.append(time.perf_counter())


def main(
    task: str, folder: Path, n_pairs: int, n_steps: int, learning_rate: float, kl_coef: float
) -> dict[str, Any]:
    """Train, and return the figures."""
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    place = folder / ("lm" if task == "dpo" else "rm")
    tokenizer = AutoTokenizer.from_pretrained(place)
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        settings: dict[str, Any] = {
            "output_dir": out, "per_device_train_batch_size": n_pairs, "num_train_epochs": n_steps,
            "learning_rate": learning_rate, "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0,
            "max_grad_norm": 1.0, "adam_beta2": 0.999, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
            "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True, "max_length": None,
        }  # fmt: skip
        shared = {
            "train_dataset": Dataset.from_list(rows),
            "processing_class": tokenizer,
            "callbacks": [clock],
        }
        if task == "dpo":
            model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
            trainer: Any = DPOTrainer(
                model, args=DPOConfig(beta=kl_coef, precompute_ref_log_probs=True, **settings), **shared
            )
        else:
            model = AutoModelForSequenceClassification.from_pretrained(
                place, num_labels=1, dtype=torch.float32
            )
            trainer = RewardTrainer(model, args=RewardConfig(**settings), **shared)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    seconds = clock.ended[-1] - clock.ended[0]
    return {"losses": losses, "pairs_per_second": (n_steps - 1) * n_pairs / seconds}


if __name__ == "__main__":
    words = sys.argv[1:]
    numbers = (int(words[2]), int(words[3]), float(words[4]), float(words[5]))
    print(json.dumps(main(words[0], Path(words[1]), *numbers)))
