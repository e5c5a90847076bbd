"""Checks of a model folder with the shards or examples it is to be trained on, and views of their tokens for people.

The task follows from the data: a loss mask means conversations, the family of text the model's family, and examples
carry their task.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parakit.checkpoints.loading import load_model
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.model.config import ModelConfig
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import (
    ExampleTrainingConfig,
    TextTrainingConfig,
    TrainingPlan,
    resolve,
    resolve_examples,
)
from parakit.training.doctor.registry import CheckResult
from parakit.training.doctor.run import run_checks
from parakit.training.tasks import TASKS, SourceSetup, TaskSettings, TaskSpec, task_spec

N_ROWS = 4
_RATES: dict[str, Any] = {"learning_rate": 0.01, "embedding_learning_rate": 0.01}


@dataclass(frozen=True)
class TokenView:
    """One token as text; `counted`: it is a counted target; `control`: it is a control token."""

    text: str
    counted: bool
    control: bool


def check_folder(
    model_path: str | Path, data_path: str | Path, split: str = "train", seq_len: int | None = None
) -> list[CheckResult]:
    """Check a model folder with the shards or example shards it is to be trained on. `seq_len` None: the model's window,
    or less where the split is small.
    """
    model, tokenizer = load_model(model_path, dtype="float32")
    if tokenizer is None:
        raise UserError(
            f"{model_path}: has no tokenizer.json, so its token ids have no text",
            "copy the model's tokenizer.json there",
        )
    data: TokenShards | ExampleShards
    if open_artifact(data_path, verify=False).kind == "example_shards":
        data = ExampleShards.open(data_path, split)
        plan = _plan_of_examples(model.config, data, seq_len)
        spec = TASKS[data.task]
    else:
        data = TokenShards.open(data_path, split)
        if data.n_counted == 0:
            raise UserError(
                f"{data_path}: no token of split {split!r} counts, so nothing can be trained",
                "write the shards again",
            )
        plan = _plan(model.config, data, seq_len)
        spec = _default_task(data, tokenizer)
    settings, source = TaskSettings(), None
    assert spec.make_source is not None
    assert spec.make_objective is not None
    if isinstance(model, spec.models):  # else `head-differs` fails, and nothing reads the rows
        source = spec.make_source(data, plan, plan.seed, SourceSetup(model.config, tokenizer, settings))
        for line in rows.lines() if (rows := getattr(source, "long_rows", None)) else ():
            log(f"{split}: {line}")
    return run_checks(model, tokenizer, source, data, plan, spec.make_objective(settings), spec)


def _default_task(shards: TokenShards, tokenizer: Tokenizer) -> TaskSpec:
    """What text of this family is trained on by default."""
    if shards.family == "decoder":
        return TASKS["next_token" if shards.loss_mask is None else "chat"]
    if shards.family == "encoder":
        return TASKS["masked"]
    return TASKS["span_corruption"] if tokenizer.sentinel_ids else task_spec("prefix", "encoder-decoder")


def _plan(config: ModelConfig, shards: TokenShards, seq_len: int | None) -> TrainingPlan:
    longest = max(2, min(config.max_seq_len, shards.n_tokens // N_ROWS - 1))
    seq_len = seq_len or longest
    n_rows = min(N_ROWS, shards.n_tokens // (seq_len + 1))
    if n_rows == 0:
        raise UserError(
            f"the split has {shards.n_tokens:,} tokens, fewer than one row of {seq_len:,} + 1",
            f"pass --seq-len {longest}, or a folder with more",
        )
    return resolve(
        TextTrainingConfig(seq_len=seq_len, device="cpu"),
        batch_tokens=max(1, n_rows) * seq_len,
        max_seq_len=config.max_seq_len,
        n_train_tokens=shards.n_tokens,
        **_RATES,
    )


def _plan_of_examples(config: ModelConfig, examples: ExampleShards, seq_len: int | None) -> TrainingPlan:
    return resolve_examples(
        ExampleTrainingConfig(seq_len=seq_len, device="cpu"),
        batch_examples=N_ROWS,
        max_seq_len=config.max_seq_len,
        n_train_examples=examples.n_examples,
        **_RATES,
    )


def document_views(
    tokenizer: Tokenizer, shards: TokenShards, n_documents: int = 3, max_tokens: int = 400
) -> list[list[TokenView]]:
    """The first documents of a split, token by token, each at most `max_tokens` long."""
    views = []
    for start, end in itertools.pairwise(shards.offsets[: n_documents + 1].tolist()):
        end = min(end, start + max_tokens)
        mask = (
            np.ones(end - start, bool)
            if shards.loss_mask is None
            else np.array(shards.loss_mask[start:end]) > 0
        )
        mask[:1] = False  # the first token is given, never predicted
        views.append(token_views(tokenizer, shards.token_ids[start:end].tolist(), mask.tolist()))
    return views


def token_views(tokenizer: Tokenizer, token_ids: Sequence[int], counted: Sequence[bool]) -> list[TokenView]:
    """A view of each id, in their order."""
    controls = tokenizer.control_ids
    return [
        TokenView(tokenizer.decode([i], skip_special=False), counts, i in controls)
        for i, counts in zip(token_ids, counted, strict=True)
    ]
