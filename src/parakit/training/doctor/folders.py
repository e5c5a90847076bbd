"""The doctor on folders: a model, token shards, and what of them would be trained.

Whether the shards are conversations is seen from their loss mask. `trained_view` is for people: token by
token, what counts and what does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parakit.checkpoints.model_folder import load_model
from parakit.common.errors import UserError
from parakit.model.heads import LanguageModel
from parakit.tokens.batches import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer import Tokenizer
from parakit.training.config import TrainingConfig, TrainingPlan, resolve
from parakit.training.doctor.case import Kind
from parakit.training.doctor.examination import Finding, examine
from parakit.training.objectives import next_token

N_ROWS = 4


@dataclass(frozen=True)
class TokenView:
    """One token as text, whether it counts, and whether it is a control token."""

    text: str
    counted: bool
    control: bool


def examine_folder(
    model_path: str | Path, shards_path: str | Path, split: str = "train", seq_len: int | None = None
) -> list[Finding]:
    """Examine a model folder with the shards it is to be trained on. `seq_len` None: the model's window, or
    less where the split is small.
    """
    model, tokenizer = load_model(model_path, dtype="float32")
    if tokenizer is None:
        raise UserError(
            f"{model_path}: has no tokenizer.json, so its tokens mean nothing",
            "put the model's tokenizer there",
        )
    shards = TokenShards.open(shards_path, split)
    if shards.n_counted == 0:
        raise UserError(
            f"{shards_path}: nothing in split {split!r} counts, so nothing can be trained",
            "write the shards again",
        )
    kind: Kind = "pretrain" if shards.loss_mask is None else "chat"
    plan = _plan(model, shards, seq_len)
    source = BatchSource(shards, plan.seq_len, plan.seed, "stream" if kind == "pretrain" else "whole")
    return examine(model, tokenizer, source, shards, plan, next_token, kind)


def _plan(model: LanguageModel, shards: TokenShards, seq_len: int | None) -> TrainingPlan:
    longest = max(2, min(model.config.max_seq_len, shards.n_tokens // N_ROWS - 1))
    seq_len = seq_len or longest
    return resolve(
        TrainingConfig(seq_len=seq_len, device="cpu"),
        learning_rate=0.01,
        embedding_learning_rate=0.01,
        batch_tokens=N_ROWS * seq_len,
        max_seq_len=model.config.max_seq_len,
        n_train_tokens=shards.n_tokens,
    )


def trained_view(
    tokenizer: Tokenizer, shards: TokenShards, n_documents: int = 3, max_tokens: int = 400
) -> list[list[TokenView]]:
    """The first documents of a split, token by token, each at most `max_tokens` long."""
    views = []
    for start, end in zip(
        shards.offsets[:n_documents].tolist(), shards.offsets[1 : n_documents + 1].tolist(), strict=True
    ):
        end = min(end, start + max_tokens)
        mask = (
            np.ones(end - start, bool)
            if shards.loss_mask is None
            else np.array(shards.loss_mask[start:end]) > 0
        )
        mask[:1] = False  # the first token is given, never predicted
        ids = shards.token_ids[start:end].tolist()
        controls = tokenizer.control_ids
        views.append(
            [
                TokenView(tokenizer.decode([i], skip_special=False), c, i in controls)
                for i, c in zip(ids, mask.tolist(), strict=True)
            ]
        )
    return views
