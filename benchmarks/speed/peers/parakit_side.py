"""Parakit's side of the speed comparison: its own loader, loop and decoding, AdamW, nothing compiled."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.peers import workload


def _generator(folder: Path) -> Any:
    from parakit.checkpoints import load_model
    from parakit.inference.config import SamplingConfig
    from parakit.inference.generation.decoding import generate_ids

    model, _ = load_model(folder, dtype="float32")

    def generate(prompts: list[list[int]], n_new: int) -> list[list[int]]:
        return generate_ids(model, prompts, SamplingConfig(temperature=0.0, max_new_tokens=n_new))

    return generate


class WholeRows:
    """Rows of one document each, (N, seq_len + 1), from the first again after the last."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids, self.rows_per_epoch = ids, float(len(ids))

    def rows(self, start_row: int, n_rows: int, /) -> Any:
        """A batch of the next rows."""
        from parakit.tokens.batches.batch import Batch

        part = self.ids[np.arange(start_row, start_row + n_rows) % len(self.ids)]
        targets = np.ascontiguousarray(part[:, 1:])
        shape = targets.shape
        positions = np.broadcast_to(np.arange(shape[1]), shape)
        counted, document = np.ones(shape, bool), np.zeros(shape, np.int32)
        return Batch(part[:, :-1], targets, counted, document, positions, targets.size, True)


def adamw_plan(seq_len: int, n_rows: int, learning_rate: float) -> Any:
    """The plan of a side that is compared: AdamW at one constant rate in float32, one micro-batch a step, not compiled."""
    from parakit.training.config import TrainingPlan

    return TrainingPlan(
        seq_len=seq_len,
        micro_batch_size=n_rows,
        n_rows=n_rows,
        batch_growth=1,
        max_steps=100_000,
        optimizer="adamw",
        learning_rate=learning_rate,
        embedding_learning_rate=learning_rate,
        weight_decay=0.0,
        momentum=0.95,
        adam_betas=(0.9, 0.95),
        schedule="constant",
        warmup_steps=0,
        decay_fraction=0.0,
        final_fraction=1.0,
        grad_clip=1.0,
        seed=0,
        precision="float32",
        compile="off",
        device="cpu",
        validate_every=1000,
        save_every=None,
    )


def train(folder: Path, size: str) -> dict[str, Any]:
    """Optimizer steps on one batch."""
    import torch

    from parakit.checkpoints import load_model
    from parakit.training.loop import train_steps
    from parakit.training.micro_batches import MicroBatch
    from parakit.training.objectives import next_token
    from parakit.training.optimizers.optimizer import Optimizer

    model, _ = load_model(folder, dtype="float32")
    plan = adamw_plan(workload.TRAIN_SEQ_LEN, workload.TRAIN_ROWS, workload.LEARNING_RATE)
    ids = torch.tensor(workload.rows(workload.TRAIN_ROWS, workload.TRAIN_SEQ_LEN + 1))
    n_counted = ids[:, 1:].numel()
    batch = MicroBatch(ids[:, :-1], ids[:, 1:].contiguous(), None, None, None, n_counted)
    steps = train_steps(model, repeat([batch]), next_token, Optimizer(model, plan))
    return workload.timed_training(lambda: next(steps).loss)


def generate_1(folder: Path, size: str) -> dict[str, Any]:
    """One prompt."""
    return workload.timed_generation(_generator(folder), 1)


def generate_8(folder: Path, size: str) -> dict[str, Any]:
    """Eight prompts at once."""
    return workload.timed_generation(_generator(folder), 8)


def start(folder: Path, size: str) -> dict[str, Any]:
    """Load and say one token; timed from outside."""
    return {"token_ids": _generator(folder)(workload.rows(1, workload.PROMPT_TOKENS), 1)}


if __name__ == "__main__":
    functions = (train, generate_1, generate_8, start)
    workload.run_side(dict(zip(workload.TASKS[1:], functions, strict=True)))
