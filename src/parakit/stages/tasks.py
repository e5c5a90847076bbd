"""The training task of a run, from its token or example shards, settings and plan: batches, loss and validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from parakit.common.choices import part_of
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Family
from parakit.evaluation.perplexity import evaluate_loss
from parakit.evaluation.samples import MAX_PROGRESS_TOKENS, text_samples
from parakit.model.config import ModelConfig
from parakit.model.heads import TransformerModel
from parakit.stages.config import EmbedTask, ReplayShare, SpanCorruption, TranslateTask, replay_of
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.config import long_row_rule
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.shard_parts import n_shared_documents
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import Masking, TrainingConfig, TrainingPlan
from parakit.training.micro_batches import Objective
from parakit.training.row_sources import RowSource, lengths_of
from parakit.training.tasks import TASKS, SourceSetup, TaskSettings, TaskSpec, TrainingTask, task_spec
from parakit.training.validation import one_epoch, validation_loss

Data = TokenShards | ExampleShards
Validator = Callable[[TransformerModel], JsonObject]
VALIDATION_SEED = 20_170_612  # masks the same tokens in every run, so that losses can be compared
VALIDATION_TOKENS = 8192  # of one forward pass
N_PROMPTS, PROMPT_TOKENS = 2, 12  # of the samples at points of a run


@dataclass(frozen=True)
class Splits:
    """A training split and a validation split."""

    train: Data
    validation: Data

    @classmethod
    def of_text(cls, path: Path, family: Family) -> Splits:
        """Token shards encoded for `family`. `UserError` for an empty split, or one encoded for another family."""
        splits = cls(TokenShards.open(path, "train"), TokenShards.open(path, "validation"))
        for name, split in (("train", splits.train), ("validation", splits.validation)):
            assert isinstance(split, TokenShards)
            if split.family != family:
                raise UserError(
                    f"{path}: these tokens have the special tokens of the family {split.family!r}, and the model is of the"
                    f" family {family!r}",
                    f"encode the text again: parakit tokenizer encode ... --family {family}",
                )
            if split.n_counted == 0:
                raise UserError(
                    f"the {name} split has no tokens to predict",
                    "give more text, or raise validation_fraction",
                )
        return splits

    @classmethod
    def of_examples(cls, path: Path) -> Splits:
        """Example shards."""
        return cls(ExampleShards.open(path, "train"), ExampleShards.open(path, "validation"))

    @classmethod
    def of_task(cls, path: Path, task: str) -> Splits:
        """The shards of a task: token shards of conversations for `chat`, else example shards."""
        return cls.of_text(path, "decoder") if task == "chat" else cls.of_examples(path)


@dataclass(frozen=True)
class ReplayData:
    """Data that the model was trained on earlier: `share` of the rows come from it, and the loss on its validation
    split measures forgetting.
    """

    splits: Splits
    share: float

    @classmethod
    def open(cls, training: TrainingConfig, path: Path, new: Splits) -> ReplayData | None:
        """The shards that `training` replays, to mix with the `new` ones of the folder `path`; None without replay.
        `UserError` where the two were encoded differently.
        """
        replay = replay_of(training)
        if replay is None:
            return None
        share = part_of(training, ReplayShare)
        assert share is not None
        if not isinstance(new.train, TokenShards) or new.train.family == "encoder-decoder":
            raise UserError(
                f"{replay}: rows of {path} cannot be mixed with others",
                "replay is for text and conversations of decoders and encoders",
            )
        data = cls(Splits.of_text(Path(replay), new.train.family), share.replay_share)
        assert isinstance(data.splits.train, TokenShards)
        new_digest, replay_digest = new.train.tokenizer_digest, data.splits.train.tokenizer_digest
        if new_digest != replay_digest:
            raise UserError(
                f"{replay}: these tokens were made by the tokenizer {replay_digest[:16]}, those of {path} by"
                f" {new_digest[:16]}",
                "encode the earlier text again with the model's tokenizer: parakit tokenizer encode MODEL ...",
            )
        return data

    def n_seen(self, new: Splits) -> int:
        """Validation documents of the replay data that are in the new training split, where their loss does not measure
        forgetting.
        """
        assert isinstance(self.splits.validation, TokenShards)
        assert isinstance(new.train, TokenShards)
        return n_shared_documents(self.splits.validation, new.train)


def task_settings(training: TrainingConfig) -> TaskSettings:
    """The settings of the task, from the options that `training` has."""
    settings = TaskSettings(too_long=long_row_rule(training))
    if isinstance(training, Masking):
        settings = replace(settings, noise_rate=training.noise_rate, whole_word=training.whole_word)
    if isinstance(training, SpanCorruption):
        settings = replace(settings, noise_rate=training.noise_rate, mean_span=training.mean_span)
    if isinstance(training, TranslateTask):
        settings = replace(settings, label_smoothing=training.label_smoothing)
    if isinstance(training, EmbedTask):
        settings = replace(settings, temperature=training.temperature)
    return settings


class TaskBuilder:
    """Builds the training task for a plan: the plan's length may depend on timed steps under a first plan."""

    def __init__(
        self,
        name: str,
        splits: Splits,
        config: ModelConfig,
        tokenizer: Tokenizer,
        settings: TaskSettings,
        replay: ReplayData | None = None,
    ) -> None:
        self.spec, self.splits, self.replay = task_spec(name, config.family), splits, replay
        self.setup = SourceSetup(config, tokenizer, settings)

    def build(self, plan: TrainingPlan) -> TrainingTask:
        """The task under this plan, with the rows of the replay data mixed in."""
        task = self.build_new(plan)
        if self.replay is None:
            return task
        new, old = cast(Any, task.source), cast(Any, self.build_replay(plan).source)  # rows of one kind
        source: ReplaySource[Any] = ReplaySource(new, old, self.replay.share)
        source.follow(lengths_of(plan))
        return replace(task, source=source, validate=self.validator(plan))

    def build_new(self, plan: TrainingPlan) -> TrainingTask:
        """The task on the new data alone."""
        return self._build(self.spec, self.splits, plan)

    def build_replay(self, plan: TrainingPlan) -> TrainingTask:
        """The task on the replay data alone: text or conversations, whichever the new data are."""
        assert self.replay is not None
        splits, spec = self.replay.splits, self.spec
        if spec.name in ("next_token", "chat"):
            is_chat = isinstance(splits.train, TokenShards) and splits.train.loss_mask is not None
            spec = TASKS["chat" if is_chat else "next_token"]
        return self._build(spec, splits, plan)

    def validator(self, plan: TrainingPlan) -> Validator:
        """The `validate` of `build`, without building the training rows."""
        new = self._validator(self.splits.validation, plan)
        return _with_replay(new, self._validator(self.replay.splits.validation, plan)) if self.replay else new

    def _build(self, spec: TaskSpec, splits: Splits, plan: TrainingPlan) -> TrainingTask:
        assert spec.make_objective
        assert spec.make_source
        source = spec.make_source(splits.train, plan, plan.seed, self.setup)
        held_out = None if self._reads_windows else self._validation_source(splits.validation, plan)
        found = {"train": source, "validation": held_out}
        return TrainingTask(
            spec=spec,
            source=source,
            data=splits.train,
            objective=spec.make_objective(self.setup.settings),
            validate=self._validator(splits.validation, plan, held_out),
            sample=self._sampler(splits.validation),
            long_rows={
                split: rows for split, one in found.items() if (rows := getattr(one, "long_rows", None))
            },
        )

    def _sampler(self, validation: Data) -> Callable[[TransformerModel], list[JsonObject]] | None:
        """What is written at points of a run on text: the beginnings of held-out documents, continued or filled in."""
        if self.spec.name not in ("next_token", "masked") or not isinstance(validation, TokenShards):
            return None
        tokenizer, prompts = self.setup.tokenizer, shard_openings(validation, self.setup.tokenizer)

        def sample(model: TransformerModel) -> list[JsonObject]:
            return text_samples(model, tokenizer, prompts, max_new_tokens=MAX_PROGRESS_TOKENS)

        return sample

    @property
    def _reads_windows(self) -> bool:
        """Whether validation reads a whole split in windows, and cuts nothing."""
        return "bits_per_byte" in self.spec.metrics

    def _validation_source(self, validation: Data, plan: TrainingPlan) -> RowSource:
        assert self.spec.make_source
        try:
            return self.spec.make_source(validation, plan, VALIDATION_SEED, self.setup)
        except UserError as error:
            raise UserError(f"validation split: {error.message}", error.hint) from None

    def _validator(self, validation: Data, plan: TrainingPlan, source: RowSource | None = None) -> Validator:
        if self._reads_windows:
            assert isinstance(validation, TokenShards)
            return _bits_per_byte(first_documents(validation, plan.validation_tokens), plan.seq_len)
        assert self.spec.make_objective
        source = source or self._validation_source(validation, plan)
        unsmoothed = replace(self.setup.settings, label_smoothing=0.0)  # so that losses can be compared
        objective = self.spec.make_objective(unsmoothed)
        n_rows, max_rows = max(1, VALIDATION_TOKENS // plan.seq_len), None
        if plan.validation_tokens is not None:
            max_rows = max(n_rows, plan.validation_tokens // plan.seq_len)
        return _objective_loss(source, objective, n_rows, max_rows)


def _bits_per_byte(validation: TokenShards, seq_len: int) -> Validator:
    """Exact metrics of a decoder on a whole split: `loss` is what training minimises, with the end tokens; bits per byte
    are those of the text alone, and so is the perplexity of documents; `end_nats` is the cost of an end token.
    """

    def validate(model: Any) -> JsonObject:
        result = evaluate_loss(model, validation, seq_len=seq_len)
        ends = {} if result.end_nats_per_token is None else {"end_nats": result.end_nats_per_token}
        return {
            "loss": result.objective,
            "perplexity": result.perplexity,
            "bits_per_byte": result.bits_per_byte,
        } | ends

    return validate


def _with_replay(new: Validator, replay: Validator) -> Validator:
    """The metrics of both validation splits, those of the replay data with the prefix `earlier_`."""
    return lambda model: new(model) | {f"earlier_{name}": value for name, value in replay(model).items()}


def _objective_loss(
    source: RowSource, objective: Objective, n_rows: int, max_rows: int | None = None
) -> Validator:
    """The loss of one pass over a split, or over its first `max_rows` rows."""
    return lambda model: {"loss": validation_loss(model, one_epoch(source, n_rows, max_rows), objective).loss}


def shard_openings(shards: TokenShards, tokenizer: Tokenizer) -> list[str]:
    """The first words of the first documents of a split, as prompts."""
    prompts = []
    for start, end in zip(shards.offsets[:N_PROMPTS], shards.offsets[1:], strict=False):
        text = tokenizer.decode(shards.token_ids[start : min(int(end), int(start) + PROMPT_TOKENS)]).strip()
        prompts.append(text.rsplit(None, 1)[0] if " " in text else text)
    return [prompt for prompt in prompts if prompt]


def first_documents(shards: TokenShards, max_tokens: int | None) -> TokenShards:
    """The first documents of a split, up to about `max_tokens` (None: all), at least one that counts. The bytes are
    taken in proportion.
    """
    if max_tokens is None or shards.n_tokens <= max_tokens:
        return shards
    for n in range(max(1, int(np.searchsorted(shards.offsets, max_tokens))), shards.n_documents + 1):
        end = int(shards.offsets[n])
        part = replace(
            shards,
            token_ids=shards.token_ids[:end],
            offsets=shards.offsets[: n + 1],
            loss_mask=None if shards.loss_mask is None else shards.loss_mask[:end],
        )
        if part.n_counted:
            return replace(part, n_bytes=round(shards.n_bytes * part.n_counted / shards.n_counted))
    return shards
