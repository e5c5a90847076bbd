"""Real, tiny training runs: a few thousand parameters on random documents, a step in milliseconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parakit.common.seeds import rng, seed_everything
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.training.config import TextTrainingConfig, TrainingPlan, resolve
from parakit.training.loop import StepRecord
from parakit.training.objectives import next_token
from parakit.training.trainer import Trainer

VOCAB_SIZE, SEQ_LEN = 31, 12


def tiny_shards(seed: int = 0, n_documents: int = 25, masked: bool = False) -> TokenShards:
    """Documents in which a token mostly follows from the one before, so that there is something to learn."""
    generator = rng(seed, "tiny")
    documents = []
    for _ in range(n_documents):
        steps = generator.integers(1, 3, int(generator.integers(3, 40)))
        documents.append([1, *(3 + np.cumsum(steps) % (VOCAB_SIZE - 3)).tolist(), 2])
    ids = np.concatenate([np.array(document, np.uint16) for document in documents])
    mask = (generator.random(len(ids)) < 0.6).astype(np.uint8) if masked else None
    return TokenShards(ids, np.cumsum([0, *map(len, documents)]), mask, vocab_size=VOCAB_SIZE, pad_id=0)


def tiny_model(seed: int = 0, **changes: Any) -> LanguageModel:
    settings = {
        "vocab_size": VOCAB_SIZE, "d_model": 12, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 6,
        "d_ff": 16, "max_seq_len": 16,
    }  # fmt: skip
    seed_everything(seed)
    return LanguageModel(DecoderConfig(**settings | changes))


def tiny_plan(**changes: Any) -> TrainingPlan:
    settings = {
        "seq_len": SEQ_LEN, "batch_tokens": 6 * SEQ_LEN, "max_steps": 12, "warmup_steps": 2, "seed": 5,
        "device": "cpu", "compile": "off", "save_every": 2,
    }  # fmt: skip
    return resolve(
        TextTrainingConfig(**settings | changes),
        learning_rate=0.02,
        embedding_learning_rate=0.01,
        batch_tokens=64,
        max_seq_len=16,
        n_train_tokens=100_000,
    )


def tiny_source(packing: str = "concat", masked: bool = False) -> BatchSource:
    return BatchSource(tiny_shards(masked=masked), SEQ_LEN, 5, packing)


def tiny_trainer(
    folder: Path | None, packing: str = "concat", dropout: float = 0.1, **changes: Any
) -> Trainer:
    """Dropout on: a resume that forgets the random state shows."""
    model = tiny_model(dropout=dropout)
    return Trainer(model, tiny_source(packing, packing == "pack"), next_token, tiny_plan(**changes), folder)


def finish(trainer: Trainer) -> list[StepRecord]:
    return list(trainer.steps())


def weights(model: LanguageModel) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def facts(record: StepRecord) -> tuple[Any, ...]:
    """What must be equal between two runs: everything but the time it took."""
    return (
        record.step,
        record.loss,
        record.n_counted,
        record.grad_norm,
        record.learning_rate,
        record.skipped,
    )


torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
