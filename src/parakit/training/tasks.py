"""The table of training tasks: for every task its model, batches, loss, metrics, and the units of both.

The stages build a run's `TrainingTask` from a row of it, and the doctor reads from the same row what to check. A new
task is a row here, an objective in `objectives/`, and a batch class in `micro_batches.py` where its rows are of a new
format. The objectives of alignment and distillation are in packages above this one, so the stages pass them in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from parakit.common.files import JsonObject
from parakit.common.processes import FigureSum
from parakit.common.progress import log
from parakit.common.settings import Family
from parakit.model.config import ModelConfig
from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    MaskedLanguageModel,
    RewardModel,
    SequenceToSequence,
    TransformerModel,
)
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.mixture import MixedSource
from parakit.tokens.batches.prefix_lm import PrefixSource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.span_corruption import SpanCorruptionSource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.config import LongRowRule
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.examples.sources import LabelledSource, PairSource, QuestionSource
from parakit.tokens.examples.text_pairs import TextPairSource
from parakit.tokens.long_rows import LongRows
from parakit.tokens.preferences.encoding import EncodedRankings
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.languages import LanguageTokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import objectives
from parakit.training.config import TrainingPlan
from parakit.training.micro_batches import Objective
from parakit.training.row_sources import RowSource, text_rows
from parakit.training.task_names import MASK_RATE, SPAN_RATE

RowFormat = Literal[
    "text",  # windows of documents
    "conversations",
    "prefixed_text",  # documents for a decoder, of which a prefix is read both ways
    "masked_text",
    "source_target",
    "labelled",
    "text_pairs",
    "rankings",
    "rollouts",  # completions that the model in training samples
]


@dataclass(frozen=True)
class TaskSettings:
    """The settings that objectives and row sources read; each task reads some of them."""

    noise_rate: float | None = None  # masked, span_corruption; None: the task's own
    whole_word: bool = False  # masked
    mean_span: float = 3.0  # span_corruption
    label_smoothing: float = 0.0  # translate
    languages: LanguageTokens | None = None  # translate, where the tokenizer has tokens for languages
    temperature: float = 0.05  # embed
    too_long: LongRowRule = "truncate"  # conversations and examples


@dataclass(frozen=True)
class SourceSetup:
    """What row sources need besides their data: the model's config, its tokenizer, the task's settings."""

    config: ModelConfig
    tokenizer: Tokenizer
    settings: TaskSettings

    @cached_property
    def vocab(self) -> VocabInfo:
        """The facts about the vocabulary that noising needs; computing them takes a pass over it."""
        return VocabInfo.from_tokenizer(self.tokenizer)


MakeSource = Callable[[Any, TrainingPlan, int, SourceSetup], RowSource]  # data, plan, seed, setup


@dataclass(frozen=True)
class TaskSpec:
    """A row of the table: the properties of a task that are the same in every run."""

    name: str
    models: tuple[type[TransformerModel], ...]
    """The model classes that can be trained on it."""
    row_format: RowFormat
    loss_unit: str
    progress_unit: str
    """What a progress bar counts: tokens where rows are of one length, else rows or examples."""
    make_objective: Callable[[TaskSettings], Objective] | None = None
    """None: the stage passes in the objective and the row source."""
    make_source: MakeSource | None = None
    metrics: tuple[str, ...] = ("loss",)
    """The metrics of validation. "bits_per_byte" is exact over the whole split; other tasks report their loss."""
    primary_metric: str = "loss"
    secondary_metric: str | None = None
    loss_is_sum: bool = True
    """Whether a micro-batch's loss is a sum over independent rows; the pairs of "embed" are each other's negatives."""
    all_tokens_predicted: bool = False
    """Whether every token passes through the output head, so that the share of the peak FLOP/s can be computed."""


@dataclass(frozen=True)
class TrainingTask:
    """The task of one run. `validate` returns the `spec.metrics` on the validation split."""

    spec: TaskSpec
    source: RowSource
    data: TokenShards | ExampleShards | EncodedRankings | None
    """The data of the rows, which the doctor checks; None where the model samples its own rows."""
    objective: Objective
    validate: Callable[[TransformerModel], JsonObject]
    step_metrics: Callable[[FigureSum], dict[str, float]] | None = None
    """Further metrics to log of the step that just ended, over all processes."""
    sample: Callable[[TransformerModel], list[JsonObject]] | None = None
    """What the model writes now, as prompts and completions: logged at every validation. None: nothing."""
    should_stop: Callable[[int, FigureSum], bool] | None = None
    """Whether to end the run early after this many steps; None: never."""
    long_rows: Mapping[str, LongRows] = field(default_factory=dict)
    """Of each split whose rows may be cut or left out: what became of them."""

    def log_long_rows(self, title: str) -> None:
        """Say what was cut and left out, in the run `title`."""
        for split, rows in self.long_rows.items():
            for line in rows.lines():
                log(f"{title}: {line}" if split == "train" else f"{title}, {split}: {line}")

    def long_row_counts(self) -> JsonObject:
        """The figures of it; none where every row fits."""
        counts = {split: rows.to_json() for split, rows in self.long_rows.items() if rows.lines()}
        return {"long_rows": counts} if counts else {}


def task_spec(name: str, family: Family) -> TaskSpec:
    """The row of the table for a model of this family; `prefix` has one for decoders and one for encoder-decoders."""
    if name == "prefix" and family == "encoder-decoder":
        return PREFIX_OF_PAIRS
    return TASKS[name]


def _windows(data: TokenShards, plan: TrainingPlan, seed: int, _: SourceSetup) -> RowSource:
    return text_rows(data, plan, seed)


def _conversations(data: TokenShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    window = setup.config.max_seq_len
    return BatchSource(data, plan.seq_len, seed, "pack", setup.settings.too_long, window=window)


def _noising_rows(
    data: TokenShards, plan: TrainingPlan, seed: int, setup: SourceSetup
) -> BatchSource | MixedSource:
    """Windows of text before noising; a decoder's are one token longer."""
    return text_rows(data, plan, seed, shift=1 if setup.config.family == "decoder" else 0)


def _prefixes(data: TokenShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    start_id = getattr(setup.config, "decoder_start_id", None)
    return PrefixSource(_noising_rows(data, plan, seed, setup), setup.vocab, start_id)


def _masked(data: TokenShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    rows, settings = _noising_rows(data, plan, seed, setup), setup.settings
    return MaskedSource(
        rows, setup.vocab, rate=settings.noise_rate or MASK_RATE, whole_word=settings.whole_word
    )


def _spans(data: TokenShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    rows, settings = _noising_rows(data, plan, seed, setup), setup.settings
    start_id, density = setup.config.decoder_start_id, settings.noise_rate or SPAN_RATE  # type: ignore[union-attr]
    return SpanCorruptionSource(rows, setup.vocab, start_id, density=density, mean_span=settings.mean_span)


def _translations(data: ExampleShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    start_id: int = setup.config.decoder_start_id  # type: ignore[union-attr]
    languages = setup.settings.languages
    frames = languages.frames(data.templates[0], setup.tokenizer) if languages else None
    return PairSource(
        data, plan.seq_len, plan.seq_len, seed, start_id, frames=frames, **_grouping(plan, setup)
    )


def _text_pairs(data: ExampleShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    return TextPairSource(data, plan.seq_len, seed, **_grouping(plan, setup))


def _labelled(data: ExampleShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    return LabelledSource(data, plan.seq_len, seed, **_grouping(plan, setup))


def _questions(data: ExampleShards, plan: TrainingPlan, seed: int, setup: SourceSetup) -> RowSource:
    return QuestionSource(data, plan.seq_len, seed, **_grouping(plan, setup))


def _grouping(plan: TrainingPlan, setup: SourceSetup) -> dict[str, Any]:
    too_long, window = setup.settings.too_long, setup.config.max_seq_len
    return {"n_rows_hint": plan.n_rows, "too_long": too_long, "window": window}


_BYTES = ("loss", "perplexity", "bits_per_byte")
_SPECS = (
    TaskSpec("next_token", (LanguageModel,), "text", "nats per token", "tokens",
             lambda _: objectives.next_token, _windows, _BYTES, all_tokens_predicted=True),
    TaskSpec("chat", (LanguageModel,), "conversations", "nats per counted token", "tokens",
             lambda _: objectives.next_token, _conversations, _BYTES, all_tokens_predicted=True),
    TaskSpec("prefix", (LanguageModel,), "prefixed_text", "nats per token behind its prefix", "tokens",
             lambda _: objectives.next_token, _prefixes),
    TaskSpec("masked", (MaskedLanguageModel,), "masked_text", "nats per masked token", "tokens",
             lambda _: objectives.masked_token, _masked),
    TaskSpec("span_corruption", (SequenceToSequence,), "source_target", "nats per target token", "rows",
             lambda _: objectives.sequence_to_sequence(), _spans),
    TaskSpec("translate", (SequenceToSequence,), "source_target", "nats per target token", "examples",
             lambda settings: objectives.sequence_to_sequence(settings.label_smoothing), _translations),
    TaskSpec("classify", (Classifier,), "labelled", "nats per example", "examples",
             lambda _: objectives.classification, _labelled),
    TaskSpec("multi_label", (Classifier,), "labelled", "nats per label", "examples",
             lambda _: objectives.multi_label, _labelled),
    TaskSpec("tag", (Classifier,), "labelled", "nats per word", "examples",
             lambda _: objectives.token_classification, _labelled),
    TaskSpec("regress", (Classifier,), "labelled", "squared error per example", "examples",
             lambda _: objectives.regression, _labelled),
    TaskSpec("answer", (Classifier,), "labelled", "nats per question", "examples",
             lambda _: objectives.answer_span, _questions),
    TaskSpec("embed", (Embedder,), "text_pairs", "nats per pair", "examples",
             lambda settings: objectives.contrastive(settings.temperature), _text_pairs, loss_is_sum=False),
    TaskSpec("reward", (RewardModel,), "rankings", "nats per ranking", "rankings",
             secondary_metric="accuracy"),
    TaskSpec("dpo", (LanguageModel,), "rankings", "nats per ranking", "rankings",
             secondary_metric="accuracy"),
    TaskSpec("ppo", (LanguageModel,), "rollouts", "less the mean reward", "completions",
             primary_metric="reward", secondary_metric="kl"),
    TaskSpec("grpo", (LanguageModel,), "rollouts", "less the mean reward", "completions",
             primary_metric="reward", secondary_metric="kl"),
)  # fmt: skip
TASKS: Mapping[str, TaskSpec] = {spec.name: spec for spec in _SPECS}
PREFIX_OF_PAIRS = replace(
    TASKS["prefix"],
    models=(SequenceToSequence,),
    row_format="source_target",
    progress_unit="rows",
    make_objective=lambda _: objectives.sequence_to_sequence(),
)
