"""Small healthy training runs of the other tasks: masked tokens, pairs, labels, scores, pairs of texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from parakit.model.config import (
    SPAN_LABELS,
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
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.prefix_lm import PrefixSource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.span_corruption import SpanCorruptionSource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.examples.shards import EncodedTexts, ExampleShards
from parakit.tokens.examples.sources import LabelledSource, PairSource, QuestionSource
from parakit.tokens.examples.text_pairs import TextPairSource
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.special_tokens_template import special_tokens_template
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import ExampleTrainingConfig, TrainingPlan, resolve_examples
from parakit.training.objectives import (
    answer_span,
    classification,
    contrastive,
    masked_token,
    multi_label,
    next_token,
    regression,
    sequence_to_sequence,
    token_classification,
)
from parakit.training.tasks import TASKS, task_spec
from tests.contracts.training_cases import (
    DOCUMENTS,
    NAMES,
    TrainingCase,
    make_plan,
    plain_shards,
    sentences,
    shards_of,
)

SHAPE: dict[str, Any] = {
    "d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "head_dim": 8, "d_ff": 24, "max_seq_len": 128,
}  # fmt: skip
LABELS = ("quiet", "loud", "between")
PAIR_TASKS = ("span_corruption", "translate", "prefix_pairs")
LABEL_TASKS = ("classify", "multi_label", "tag", "regress", "answer")
CASE_TASKS = ("masked", "prefix", *PAIR_TASKS, *LABEL_TASKS, "embed")
OBJECTIVES = {
    "classify": classification,
    "multi_label": multi_label,
    "tag": token_classification,
    "regress": regression,
    "answer": answer_span,
}
SEQ_LEN = 64


# ---- models


def task_model(task: str, vocab_size: int, decoder_trunk: bool = False, **changes: Any) -> Any:
    torch.manual_seed(0)
    shape = SHAPE | {"vocab_size": vocab_size} | changes
    if task in PAIR_TASKS:
        shape = {"positions": "relative"} | shape
        sides = {"encoder": EncoderConfig(**shape), "decoder": DecoderConfig(**shape)}
        return SequenceToSequence(EncoderDecoderConfig(**sides, decoder_start_id=0))
    if task == "prefix":
        return LanguageModel(DecoderConfig(**shape))
    config = DecoderConfig(**shape) if decoder_trunk else EncoderConfig(**shape)
    pooling = "last" if decoder_trunk else "cls"
    if task == "masked":
        return MaskedLanguageModel(EncoderConfig(**shape))
    if task == "embed":
        return Embedder(config, EmbedderConfig(pooling="last" if decoder_trunk else "mean"))
    labels = {"regress": ("score",), "answer": SPAN_LABELS}.get(task, LABELS)
    level = {"tag": "token", "answer": "span"}.get(task, "sequence")
    kinds = {"regression": task == "regress", "multi_label": task == "multi_label"}
    classes = ClassifierConfig(labels=labels, level=level, pooling=pooling, **kinds)
    return Classifier(config, classes)


# ---- data


def framed_shards(tokenizer: Tokenizer, family: Any) -> TokenShards:
    before, after = (
        ([tokenizer.cls_id], [tokenizer.sep_id]) if family == "encoder" else ([], [tokenizer.eos_id])
    )
    ids = [[*before, *tokenizer.encode(d.text), *after] for d in DOCUMENTS]
    return replace(shards_of(ids, None, tokenizer), family=family)


def example_shards(task: str, tokenizer: Tokenizer, family: Any) -> ExampleShards:
    """60 examples; labels, scores and targets follow from the text."""
    texts = [sentences(number) for number in range(60)]
    encoded = [tokenizer.encode(text) for text in texts]
    keys: dict[str, list[list[int]]] = {"text": encoded}
    targets: np.ndarray | None = None
    if task == "classify":
        keys["text_pair"] = [tokenizer.encode(NAMES[i % 6]) if i % 2 else [] for i in range(60)]
        targets = np.arange(60) % 3
    elif task == "regress":
        targets = np.array([len(text) / 50 for text in texts], np.float32)
    elif task == "tag":
        keys = {"words": encoded}
        flat = np.concatenate([np.arange(len(ids)) for ids in encoded])
        targets = np.where(flat % 4 == 3, -1, flat % 3)
    elif task == "multi_label":
        targets = (np.arange(60)[:, None] % np.array([2, 3, 5]) == 0).astype(np.uint8)
    elif task == "answer":
        keys = {"question": [tokenizer.encode(NAMES[i % 6]) for i in range(60)], "context": encoded}
        ends = [min(i % 4, len(ids) - 1) for i, ids in enumerate(encoded)]
        targets = np.array([[end // 2, end] if i % 7 else [-1, -1] for i, end in enumerate(ends)])
    elif task == "translate":
        keys = {"source": encoded, "target": [tokenizer.encode(text.upper()) for text in texts]}
    else:
        keys["positive"] = [tokenizer.encode(f"It is said that {text}") for text in texts]
    return ExampleShards(
        task=task,
        texts={
            key: EncodedTexts(np.concatenate(rows).astype(np.uint16), np.cumsum([0, *map(len, rows)]))
            for key, rows in keys.items()
        },
        targets=targets,
        labels=LABELS if task in ("classify", "multi_label", "tag") else (),
        templates=(
            special_tokens_template(tokenizer, family, 1),
            special_tokens_template(tokenizer, family, 2),
        ),
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
        tokenizer_digest=tokenizer.digest,
    )


def examples_plan(**changes: Any) -> TrainingPlan:
    config = ExampleTrainingConfig(batch_examples=12, max_steps=20, device="cpu", **changes)
    return resolve_examples(
        config, learning_rate=0.02, embedding_learning_rate=0.004, max_seq_len=128, n_train_examples=60
    )


# ---- training cases


def task_case(task: str, tokenizer: Tokenizer, decoder_trunk: bool = False, **shape: Any) -> TrainingCase:
    model, facts = (
        task_model(task, tokenizer.vocab_size, decoder_trunk, **shape),
        VocabInfo.from_tokenizer(tokenizer),
    )
    if task in ("masked", "prefix", "span_corruption", "prefix_pairs"):
        if task == "prefix":
            shards = plain_shards(tokenizer)
        else:
            shards = framed_shards(tokenizer, "encoder" if task == "masked" else "encoder-decoder")
        windows = BatchSource(shards, SEQ_LEN, 0, "concat", shift=int(task == "prefix"))
        source: Any = {
            "masked": lambda: MaskedSource(windows, facts),
            "prefix": lambda: PrefixSource(windows, facts),
            "span_corruption": lambda: SpanCorruptionSource(windows, facts, 0),
            "prefix_pairs": lambda: PrefixSource(windows, facts, 0),
        }[task]()
        objective: Any = {"masked": masked_token, "prefix": next_token}.get(task, sequence_to_sequence())
        plan = make_plan(shards, SEQ_LEN)
        spec = task_spec(task.removesuffix("_pairs"), model.config.family)
        return TrainingCase(model, tokenizer, shards, source, plan, spec, objective)
    family = "decoder" if decoder_trunk else "encoder-decoder" if task == "translate" else "encoder"
    examples = example_shards(task, tokenizer, family)
    if task == "translate":
        source, objective = PairSource(examples, 128, 128, 0, 0, n_rows_hint=12), sequence_to_sequence(0.1)
    elif task == "embed":
        source, objective = TextPairSource(examples, 128, 0, n_rows_hint=12), contrastive()
    else:
        rows = QuestionSource if task == "answer" else LabelledSource
        source, objective = rows(examples, 128, 0, n_rows_hint=12), OBJECTIVES[task]
    return TrainingCase(model, tokenizer, examples, source, examples_plan(), TASKS[task], objective)


class Changed:
    """Real rows with one mistake: `change` returns the wrong fields of a batch."""

    def __init__(self, source: Any, change: Callable[[Any], dict[str, Any]]) -> None:
        self.source, self.change, self.rows_per_epoch = source, change, source.rows_per_epoch

    def rows(self, start_row: int, n_rows: int) -> Any:
        batch = self.source.rows(start_row, n_rows)
        return replace(batch, **self.change(batch))


def changed(case: TrainingCase, change: Callable[[Any], dict[str, Any]]) -> TrainingCase:
    return case.replace(source=Changed(case.source, change))


def as_type(batch: Any, batch_type: type[Any], **values: Any) -> Any:
    """`batch` as another type of batch, with values for that type's other fields."""
    return batch_type(**{field.name: getattr(batch, field.name) for field in fields(batch)} | values)
