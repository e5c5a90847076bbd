"""What a run learns from: its batches, the loss of a batch, and how the held-out part is measured.

Pre-training differs in what of a text is hidden, tuning in what the examples are answered with; all else is the one
run in `running.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.evaluation.perplexity import evaluate_loss
from parakit.model.config import Family, ModelConfig
from parakit.model.heads import Model
from parakit.stages.config import FinetuneConfig, PretrainConfig, Replay, TranslateTask
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.prefix_lm import PrefixSource
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.span_corruption import SpanCorruptionSource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.examples.sources import LabelledSource, PairSource, TextPairSource
from parakit.tokens.preferences.encoding import EncodedRankings
from parakit.tokens.shards import TokenShards, n_shared_documents
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import objectives
from parakit.training.config import TrainingPlan
from parakit.training.micro_batches import Objective
from parakit.training.row_sources import RowSource
from parakit.training.task_names import MASK_RATE, SPAN_RATE, ObjectiveName, TaskName
from parakit.training.validation import one_epoch, validation_loss

Data = TokenShards | ExampleShards
VALIDATION_SEED = 20_170_612  # hides the same tokens in every run, so that their losses can be compared
VALIDATION_TOKENS = 8192  # in one forward pass


@dataclass(frozen=True)
class Splits:
    """What is trained on, and what is held out."""

    train: Data
    validation: Data

    @classmethod
    def of_text(cls, path: Path, family: Family) -> Splits:
        """Token shards, framed for `family`. `UserError` where a split is empty or framed for another."""
        found = cls(TokenShards.open(path, "train"), TokenShards.open(path, "validation"))
        for name, split in (("train", found.train), ("validation", found.validation)):
            assert isinstance(split, TokenShards)
            if split.family != family:
                raise UserError(
                    f"{path}: these tokens are framed for the family {split.family!r}, and the model is of the"
                    f" family {family!r}",
                    f"encode the text again: parakit tokenizer encode ... --family {family}",
                )
            if split.n_counted == 0:
                raise UserError(
                    f"the {name} split holds nothing to predict",
                    "give more text, or raise validation_fraction",
                )
        return found

    @classmethod
    def of_examples(cls, path: Path) -> Splits:
        """Example shards."""
        return cls(ExampleShards.open(path, "train"), ExampleShards.open(path, "validation"))


@dataclass(frozen=True)
class ReplayData:
    """What a model learned before: so large a share of the rows comes from there, and the loss on its held-out part tells
    what is forgotten.
    """

    splits: Splits
    share: float

    @classmethod
    def of(cls, training: PretrainConfig | FinetuneConfig, path: Path, new: Splits) -> ReplayData | None:
        """The data that `training` replays beside the `new` of the folder `path`; None where it replays nothing.
        `UserError` where the two were not encoded alike.
        """
        if not isinstance(training, Replay) or training.replay is None:
            return None
        if not isinstance(new.train, TokenShards) or new.train.family == "encoder-decoder":
            raise UserError(
                f"{training.replay}: rows of {path} cannot be mixed with others",
                "replay is for text and conversations of decoders and encoders",
            )
        found = cls(Splits.of_text(Path(training.replay), new.train.family), training.replay_share)
        assert isinstance(found.splits.train, TokenShards)
        ours, theirs = new.train.tokenizer_digest, found.splits.train.tokenizer_digest
        if ours != theirs:
            raise UserError(
                f"{training.replay}: these tokens were made by the tokenizer {theirs[:16]}, those of {path} by {ours[:16]}",
                "encode the earlier text again with the model's tokenizer: parakit tokenizer encode MODEL ...",
            )
        return found

    def n_seen(self, new: Splits) -> int:
        """How many held-out documents of the earlier data are trained on with the new: their loss says nothing of
        forgetting.
        """
        assert isinstance(self.splits.validation, TokenShards)
        assert isinstance(new.train, TokenShards)
        return n_shared_documents(self.splits.validation, new.train)


@dataclass(frozen=True)
class Lesson:
    """`kind` tells the doctor what to expect; `measure` returns the `loss` on the held-out part, and what follows
    from it.
    """

    kind: str
    source: RowSource
    data: Data | EncodedRankings | None
    """What the rows come from; None where the model makes them, and there is nothing that the doctor could read."""
    objective: Objective
    loss_unit: str
    measure: Callable[[Model], dict[str, Any]]
    unit: str
    """What progress is told in: tokens where rows are of one length, else rows or examples."""
    step_figures: Callable[[], dict[str, float]] | None = None
    """More to log of the step that just ended."""
    should_stop: Callable[[int], bool] | None = None
    """Whether the run is over after so many steps, before its plan is; None: never."""
    primary_metric: str = "loss"
    """The figure of `measure` and of a step that a person watches."""
    secondary_metric: str | None = None
    """A figure of both that is shown beside the headline."""

    @property
    def every_token_counts(self) -> bool:
        """Whether every token passes the output matrix, so that the share of the machine's peak can be told."""
        return self.kind in ("pretrain", "chat")


class TaskBuilder:
    """Everything that turns splits and a plan into a lesson. The plan comes last, for its length is known only after
    some steps of a first plan were timed.
    """

    def __init__(
        self,
        learned: ObjectiveName | TaskName,
        splits: Splits,
        shape: ModelConfig,
        tokenizer: Tokenizer,
        training: PretrainConfig | FinetuneConfig,
        earlier: ReplayData | None = None,
    ) -> None:
        self.learned, self.splits, self.shape = learned, splits, shape
        self.tokenizer, self.training, self.earlier = tokenizer, training, earlier

    def under(self, plan: TrainingPlan) -> Lesson:
        """The lesson under this plan. With earlier data its rows are mixed in, and measured beside the new."""
        lesson = self.build_new(plan)
        if self.earlier is None:
            return lesson
        earlier = self.build_replay(plan)
        source = ReplaySource(lesson.source, earlier.source, self.earlier.share)
        return replace(lesson, source=source, measure=self.measured(plan))

    def measured(self, plan: TrainingPlan) -> Callable[[Model], dict[str, Any]]:
        """What `under` measures, without the rows to train on."""
        new = self._measured(self.splits.validation, plan)
        return _both(new, self._measured(self.earlier.splits.validation, plan)) if self.earlier else new

    def build_new(self, plan: TrainingPlan) -> Lesson:
        """The lesson on the new data alone."""
        kind = "pretrain" if self.learned == "next_token" else self.learned
        return self._lesson(self.splits, plan, kind, "pack" if self.learned == "chat" else "concat")

    def build_replay(self, plan: TrainingPlan) -> Lesson:
        """The lesson on the earlier data alone: text, or conversations, whatever the new data are."""
        assert self.earlier is not None
        splits = self.earlier.splits
        if self.learned not in ("next_token", "chat"):
            return self._lesson(splits, plan, self.learned, "concat")
        is_chat = isinstance(splits.train, TokenShards) and splits.train.loss_mask is not None
        return self._lesson(splits, plan, "chat" if is_chat else "pretrain", "pack" if is_chat else "concat")

    def _lesson(self, splits: Splits, plan: TrainingPlan, kind: str, packing: str) -> Lesson:
        objective, loss_unit = self._objective(self.training)
        measure = self._measured(splits.validation, plan)
        source = self._source(splits.train, plan, plan.seed, packing)
        unit = "rows" if self.shape.family == "encoder-decoder" else "tokens"
        unit = "examples" if isinstance(splits.train, ExampleShards) else unit
        return Lesson(kind, source, splits.train, objective, loss_unit, measure, unit)

    def _measured(self, validation: Data, plan: TrainingPlan) -> Callable[[Model], dict[str, Any]]:
        if self.learned in ("next_token", "chat"):
            assert isinstance(validation, TokenShards)
            return _bits_per_byte(validation, plan.seq_len)
        source = self._source(validation, plan, VALIDATION_SEED)
        plain, _ = self._objective(_without_smoothing(self.training))
        return _objective_loss(source, plain, max(1, VALIDATION_TOKENS // plan.seq_len))

    def _objective(self, training: PretrainConfig | FinetuneConfig) -> tuple[Objective, str]:
        """The loss, and what it is measured in."""
        if self.learned == "prefix" and self.shape.family == "encoder-decoder":
            return objectives.sequence_to_sequence(), "nats per token behind its prefix"
        return _OBJECTIVES[self.learned](training)

    def _source(self, data: Data, plan: TrainingPlan, seed: int, packing: str = "concat") -> RowSource:
        if isinstance(data, ExampleShards):
            return self._examples(data, plan, seed)
        if self.learned in ("next_token", "chat"):
            return BatchSource(data, plan.seq_len, seed, packing)
        decoder_start_id = getattr(self.shape, "decoder_start_id", None)
        shift = 1 if self.shape.family == "decoder" else 0
        rows = BatchSource(data, plan.seq_len, seed, shift=shift)
        rate, assumed = getattr(self.training, "noise_rate", None), self.training
        if self.learned == "prefix":
            return PrefixSource(rows, self._facts, decoder_start_id)
        assert isinstance(assumed, PretrainConfig)
        if self.learned == "masked":
            return MaskedSource(rows, self._facts, rate=rate or MASK_RATE, whole_word=assumed.whole_word)
        assert decoder_start_id is not None
        return SpanCorruptionSource(
            rows, self._facts, decoder_start_id, density=rate or SPAN_RATE, mean_span=assumed.mean_span
        )

    def _examples(self, data: ExampleShards, plan: TrainingPlan, seed: int) -> RowSource:
        hint = plan.n_rows
        if self.learned == "translate":
            start = self.shape.decoder_start_id
            return PairSource(data, plan.seq_len, plan.seq_len, seed, start, n_rows_hint=hint)
        if self.learned == "embed":
            return TextPairSource(data, plan.seq_len, seed, n_rows_hint=hint)
        return LabelledSource(data, plan.seq_len, seed, n_rows_hint=hint)

    @cached_property
    def _facts(self) -> Any:
        return VocabInfo.from_tokenizer(self.tokenizer)


_TOKEN, _EXAMPLE = "nats per token", "nats per example"
_OBJECTIVES: Mapping[str, Callable[[Any], tuple[Objective, str]]] = {
    "next_token": lambda _: (objectives.next_token, _TOKEN),
    "chat": lambda _: (objectives.next_token, "nats per counted token"),
    "prefix": lambda _: (objectives.next_token, "nats per token behind its prefix"),
    "masked": lambda _: (objectives.masked_token, "nats per masked token"),
    "span_corruption": lambda _: (objectives.sequence_to_sequence(), "nats per target token"),
    "translate": lambda t: (objectives.sequence_to_sequence(t.label_smoothing), "nats per target token"),
    "classify": lambda _: (objectives.classification, _EXAMPLE),
    "tag": lambda _: (objectives.token_classification, "nats per word"),
    "regress": lambda _: (objectives.regression, "squared error per example"),
    "embed": lambda t: (objectives.contrastive(t.temperature), "nats per pair"),
}


def _without_smoothing(training: PretrainConfig | FinetuneConfig) -> PretrainConfig | FinetuneConfig:
    """Held-out losses are comparable whatever was smoothed in training."""
    return training.replace(label_smoothing=0.0) if isinstance(training, TranslateTask) else training


def _bits_per_byte(validation: TokenShards, seq_len: int) -> Callable[[Model], dict[str, Any]]:
    """Exact figures of a decoder on a whole split."""

    def measure(model: Any) -> dict[str, Any]:
        found = evaluate_loss(model, validation, seq_len=seq_len)
        return {
            "loss": found.loss_nats_per_token,
            "perplexity": found.perplexity,
            "bits_per_byte": found.bits_per_byte,
        }

    return measure


def _both(
    new: Callable[[Model], dict[str, Any]], earlier: Callable[[Model], dict[str, Any]]
) -> Callable[[Model], dict[str, Any]]:
    """The figures of both held-out parts, those of the earlier data as `earlier_loss` and so on."""
    return lambda model: new(model) | {f"earlier_{name}": value for name, value in earlier(model).items()}


def _objective_loss(
    source: RowSource, objective: Objective, n_rows: int
) -> Callable[[Model], dict[str, Any]]:
    """The loss of one pass over a split."""
    return lambda model: {"loss": validation_loss(model, one_epoch(source, n_rows), objective).loss}
