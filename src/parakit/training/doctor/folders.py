"""The doctor on folders: a model, tokens of text, conversations or examples, and what of them would be trained.

What would be learned is seen from the data: a loss mask means conversations, the family of text names the family,
examples name their task. `trained_view` is for people: token by token, what counts and what does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from parakit.checkpoints.model_folder import load_model
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.model.config import ModelConfig
from parakit.model.heads import Model
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.prefix_lm import PrefixSource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.span_corruption import SpanCorruptionSource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.examples.sources import LabelledSource, PairSource, TextPairSource
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import objectives
from parakit.training.config import TrainingConfig, TrainingPlan, resolve, resolve_examples
from parakit.training.doctor.case import Kind
from parakit.training.doctor.examination import Finding, examine
from parakit.training.micro_batches import Objective
from parakit.training.row_sources import RowSource

N_ROWS = 4
OBJECTIVES: dict[Kind, Objective] = {
    "pretrain": objectives.next_token,
    "chat": objectives.next_token,
    "masked": objectives.masked_token,
    "span_corruption": objectives.sequence_to_sequence(),
    "prefix": objectives.sequence_to_sequence(),
    "translate": objectives.sequence_to_sequence(),
    "classify": objectives.classification,
    "tag": objectives.token_classification,
    "regress": objectives.regression,
    "embed": objectives.contrastive(),
}
_RATES: dict[str, Any] = {"learning_rate": 0.01, "embedding_learning_rate": 0.01}


@dataclass(frozen=True)
class TokenView:
    """One token as text, whether it counts, and whether it is a control token."""

    text: str
    counted: bool
    control: bool


def examine_folder(
    model_path: str | Path, data_path: str | Path, split: str = "train", seq_len: int | None = None
) -> list[Finding]:
    """Examine a model folder with the shards or example shards it is to be trained on. `seq_len` None: the model's
    window, or less where the split is small.
    """
    model, tokenizer = load_model(model_path, dtype="float32")
    if tokenizer is None:
        raise UserError(
            f"{model_path}: has no tokenizer.json, so its tokens mean nothing",
            "put the model's tokenizer there",
        )
    if open_artifact(data_path, verify=False).kind == "example_shards":
        examples = ExampleShards.open(data_path, split)
        kind, plan = cast(Kind, examples.task), _plan_of_examples(model.config, examples, seq_len)
        source = _examples(examples, plan.seq_len, model.config)
        return examine(model, tokenizer, source, examples, plan, OBJECTIVES[kind], kind)
    shards = TokenShards.open(data_path, split)
    if shards.n_counted == 0:
        raise UserError(
            f"{data_path}: nothing in split {split!r} counts, so nothing can be trained",
            "write the shards again",
        )
    plan = _plan(model.config, shards, seq_len)
    kind, source = _text(shards, plan, model, tokenizer)
    return examine(model, tokenizer, source, shards, plan, OBJECTIVES[kind], kind)


def _text(
    shards: TokenShards, plan: TrainingPlan, model: Model, tokenizer: Tokenizer
) -> tuple[Kind, RowSource]:
    """What text is pre-trained on by default, and its rows."""
    if shards.family == "decoder":
        chat = shards.loss_mask is not None
        rows = BatchSource(shards, plan.seq_len, plan.seed, "pack" if chat else "concat")
        return ("chat" if chat else "pretrain"), rows
    rows, facts = BatchSource(shards, plan.seq_len, plan.seed, shift=0), VocabInfo.from_tokenizer(tokenizer)
    if shards.family == "encoder":
        return "masked", MaskedSource(rows, facts)
    start = getattr(model.config, "decoder_start_id", 0)
    if tokenizer.sentinel_ids:
        return "span_corruption", SpanCorruptionSource(rows, facts, start)
    return "prefix", PrefixSource(rows, facts, start)


def _examples(examples: ExampleShards, seq_len: int, config: ModelConfig) -> RowSource:
    if examples.task == "translate":
        start = getattr(config, "decoder_start_id", 0)
        return PairSource(examples, seq_len, seq_len, 0, start, n_rows_hint=N_ROWS)
    if examples.task == "embed":
        return TextPairSource(examples, seq_len, 0, n_rows_hint=N_ROWS)
    return LabelledSource(examples, seq_len, 0, n_rows_hint=N_ROWS)


def _plan(config: ModelConfig, shards: TokenShards, seq_len: int | None) -> TrainingPlan:
    longest = max(2, min(config.max_seq_len, shards.n_tokens // N_ROWS - 1))
    seq_len = seq_len or longest
    return resolve(
        TrainingConfig(seq_len=seq_len, device="cpu"),
        batch_tokens=N_ROWS * seq_len,
        max_seq_len=config.max_seq_len,
        n_train_tokens=shards.n_tokens,
        **_RATES,
    )


def _plan_of_examples(config: ModelConfig, examples: ExampleShards, seq_len: int | None) -> TrainingPlan:
    return resolve_examples(
        TrainingConfig(seq_len=seq_len, device="cpu"),
        batch_examples=N_ROWS,
        max_seq_len=config.max_seq_len,
        n_train_examples=examples.n_examples,
        **_RATES,
    )


def trained_view(
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
    """Ids as views, in their order."""
    controls = tokenizer.control_ids
    return [
        TokenView(tokenizer.decode([i], skip_special=False), counts, i in controls)
        for i, counts in zip(token_ids, counted, strict=True)
    ]
