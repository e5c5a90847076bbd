"""A real, tiny run of every objective: a model of a few thousand parameters, rows that are a pure function of
their number, and something to learn in each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from parakit.common.seeds import rng, seed_everything
from parakit.model.config import (
    ClassifierConfig,
    DecoderConfig,
    EmbedderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
)
from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    MaskedLanguageModel,
    SequenceToSequence,
)
from parakit.tokens.batches.batch import Batch, LabelledBatch, PairBatch, TextPairBatch
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.prefix_lm import PrefixSource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.span_corruption import SpanCorruptionSource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.training.micro_batches import DistributionBatch, Objective
from parakit.training.objectives import (
    classification,
    contrastive,
    distribution_matching,
    masked_token,
    next_token,
    regression,
    sequence_to_sequence,
    token_classification,
)
from parakit.training.trainer import Trainer
from tests.training.tiny_runs import SEQ_LEN, VOCAB_SIZE, tiny_plan, tiny_shards

PAD, CLS, SEP, MASK, SENTINELS = 0, 1, 2, 27, (28, 29, 30)
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "d_model": 12, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "head_dim": 6,
    "d_ff": 16, "max_seq_len": 24,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"n_experts": 4, "d_expert": 8, "balance_coef": 0.05, "router_z_coef": 0.01}
LABELS = ("no", "yes", "perhaps")


@dataclass(frozen=True)
class Task:
    """What a session is made of."""

    model: Callable[..., Any]
    source: Callable[[], Any]
    objective: Objective


def woken(model: Any) -> Any:
    """No matrix of zeros, so that every gradient is one."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


# ---- models


def encoder(**changes: Any) -> EncoderConfig:
    return EncoderConfig(**SHAPE | changes)


def language_model(**changes: Any) -> LanguageModel:
    return LanguageModel(DecoderConfig(**SHAPE | changes))


def masked_model(**changes: Any) -> MaskedLanguageModel:
    return MaskedLanguageModel(encoder(**changes))


def pair_model(**changes: Any) -> SequenceToSequence:
    shape = SHAPE | {"positions": "relative"} | changes
    return SequenceToSequence(
        EncoderDecoderConfig(
            encoder=EncoderConfig(**shape), decoder=DecoderConfig(**shape), decoder_start_id=PAD
        )
    )


def classifier(level: str = "sequence", labels: tuple[str, ...] = LABELS, **changes: Any) -> Classifier:
    classes = ClassifierConfig(labels=labels, level=level, regression=len(labels) == 1, pooling="mean")
    return Classifier(encoder(n_token_types=2, **changes), classes)


def embedder(**changes: Any) -> Embedder:
    return Embedder(encoder(**changes), EmbedderConfig())


# ---- rows


def text(seed: int, row: int) -> np.ndarray:
    """3 to 9 tokens, each mostly the one before plus one."""
    generator = rng(seed, "text", row)
    steps = generator.integers(1, 3, int(generator.integers(3, 10)))
    return 3 + (generator.integers(0, 24) + np.cumsum(steps)) % 24


def padded(rows: list[np.ndarray], fill: float = PAD, dtype: type = np.int64) -> np.ndarray:
    width = max(map(len, rows))
    return np.stack([np.pad(row, (0, width - len(row)), constant_values=fill) for row in rows]).astype(dtype)


def real(rows: list[np.ndarray]) -> np.ndarray:
    return padded([np.ones(len(row)) for row in rows], 0, np.bool_)


class Rows:
    """Rows in an order without end; a subclass makes a batch of texts."""

    rows_per_epoch = 20.0

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def rows(self, start_row: int, n_rows: int) -> Any:
        numbers = [row % 20 for row in range(start_row, start_row + n_rows)]
        return self.batch([text(self.seed, number) for number in numbers])

    def batch(self, texts: list[np.ndarray]) -> Any:
        raise AssertionError

    def epoch_of(self, row: int) -> float:
        return row / self.rows_per_epoch


class Labelled(Rows):
    """The class of a text is that of its first token."""

    def labels(self, texts: list[np.ndarray]) -> np.ndarray:
        return np.array([one[0] % 3 for one in texts])

    def batch(self, texts: list[np.ndarray]) -> LabelledBatch:
        rows_with_markers = [np.concatenate([[CLS], one, [SEP]]) for one in texts]
        types = [np.arange(len(one)) > len(one) // 2 for one in rows_with_markers]
        return LabelledBatch(
            padded(rows_with_markers),
            real(rows_with_markers),
            padded(types),
            self.labels(texts),
            None,
            len(texts),
        )


class Scored(Labelled):
    """The score of a text is the mean of its tokens."""

    def labels(self, texts: list[np.ndarray]) -> np.ndarray:
        return np.array([one.mean() / 10 for one in texts], np.float32)


class Tagged(Rows):
    """The tag of a token is its residue; every third continues a word."""

    def batch(self, texts: list[np.ndarray]) -> LabelledBatch:
        counted = padded([np.arange(len(one)) % 3 != 2 for one in texts], 0, np.bool_)
        ids = padded(texts)
        return LabelledBatch(ids, real(texts), None, ids % 3, counted, int(counted.sum()))


class Pairs(Rows):
    """The target is the source backwards."""

    def batch(self, texts: list[np.ndarray]) -> PairBatch:
        sources = [np.append(one, SEP) for one in texts]
        targets = [np.append(one[::-1], SEP) for one in texts]
        inputs = [np.concatenate([[PAD], target[:-1]]) for target in targets]
        counted = real(targets)
        return PairBatch(
            padded(sources), real(sources), padded(inputs), padded(targets), counted, int(counted.sum())
        )


class TextPairs(Rows):
    """The second text is the first with every token moved on by one."""

    def batch(self, texts: list[np.ndarray]) -> TextPairBatch:
        others = [3 + (one - 2) % 24 for one in texts]
        return TextPairBatch(padded(texts), real(texts), padded(others), real(others), len(texts))


class Distributions:
    """Tokens, and for each target a distribution around it."""

    def __init__(self) -> None:
        self.source = tokens(masked=True)
        self.rows_per_epoch = self.source.rows_per_epoch

    def rows(self, start_row: int, n_rows: int) -> DistributionBatch:
        batch = self.source.rows(start_row, n_rows)
        table = rng(0, "distributions").normal(size=(VOCAB_SIZE, VOCAB_SIZE)).astype(np.float32)
        named = {field.name: getattr(batch, field.name) for field in fields(Batch)}
        return DistributionBatch(**named, target_logits=2 * table[batch.target_ids])


def tokens(packing: str = "pack", masked: bool = False, shift: int = 1) -> BatchSource:
    return BatchSource(tiny_shards(masked=masked), SEQ_LEN, 5, packing, shift=shift)


def facts() -> VocabInfo:
    special = np.zeros(VOCAB_SIZE, np.bool_)
    special[[PAD, CLS, SEP, MASK, *SENTINELS]] = True
    every = np.ones(VOCAB_SIZE, np.bool_)
    return VocabInfo(
        special=special, ordinary_ids=np.flatnonzero(~special), opens_word=every, closes_word=every,
        mask_id=MASK, cls_id=CLS, sep_id=SEP, eos_id=SEP, pad_id=PAD, sentinel_ids=SENTINELS,
    )  # fmt: skip


TASKS: dict[str, Task] = {
    "next_token": Task(language_model, lambda: tokens(masked=True), next_token),
    "prefix": Task(language_model, lambda: PrefixSource(tokens("concat"), facts()), next_token),
    "experts": Task(lambda **c: language_model(**EXPERTS | c), lambda: tokens(), next_token),
    "masked": Task(masked_model, lambda: MaskedSource(tokens("concat", shift=0), facts()), masked_token),
    "span": Task(
        pair_model,
        lambda: SpanCorruptionSource(tokens("concat", shift=0), facts(), PAD),
        sequence_to_sequence(),
    ),
    "pairs": Task(
        lambda **c: pair_model(positions="sinusoidal", **c), Pairs, sequence_to_sequence(label_smoothing=0.1)
    ),
    "classify": Task(classifier, Labelled, classification),
    "tag": Task(lambda **c: classifier("token", **c), Tagged, token_classification),
    "regress": Task(lambda **c: classifier(labels=("score",), **c), Scored, regression),
    "embed": Task(embedder, TextPairs, contrastive()),
    "forward": Task(language_model, Distributions, distribution_matching()),
    "reverse": Task(language_model, Distributions, distribution_matching("reverse", 2.0)),
}


def task_trainer(name: str, folder: Path | None = None, dropout: float = 0.1, **changes: Any) -> Trainer:
    seed_everything(0)
    task = TASKS[name]
    return Trainer(task.model(dropout=dropout), task.source(), task.objective, tiny_plan(**changes), folder)


def cut(batch: Any, begin: int, end: int) -> Any:
    """Rows `begin` to `end - 1` of any batch."""
    arrays = {
        field.name: value[begin:end]
        for field in fields(batch)
        if isinstance(value := getattr(batch, field.name), np.ndarray)
    }
    part = replace(batch, **arrays)
    counted = getattr(part, "loss_mask", None)
    return replace(part, n_counted=end - begin if counted is None else int(counted.sum()))


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
