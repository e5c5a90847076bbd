"""The schema of a build's summary, `summary.json`: what the report, the model cards and other programs read.

A key that is none of the schema's is an error. A key of the schema may be absent: a stage did not run, or a value was not
measured. `python -m parakit.reports.summary_schema` prints it as a JSON schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, SerializeAsAny, field_validator

from parakit.common.files import JsonObject
from parakit.evaluation.comparison.config import GATE
from parakit.reports.documents.summary import ANSWERS, INDEX, AnswersSummary, IndexSummary
from parakit.reports.summary_parts import (
    BeforeAfterSummary,
    BenchmarkSummary,
    FigureComparison,
    Number,
    ParentComparison,
    PredictedLoss,
    Sample,
    SamplePair,
    SkippedFile,
    StageSummary,
    SuiteSummary,
    SummaryPart,
    TaskSummary,
    TextEvaluation,
)


class StartSummary(StageSummary):
    """The imported model that the build began with: where it came from, the sha256 of its files, and what it is."""

    source: str | None = None
    revision: str | None = None
    quantization: dict[str, int] | None = Field(
        default=None, description="Of a GGUF file: its tensors by format."
    )
    architecture: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = Field(default=(), description="What the import does not keep.")
    parameters: int | None = None
    config: JsonObject = Field(default_factory=dict)
    samples: tuple[Sample, ...] = ()


class VocabularySummary(StageSummary):
    """The larger vocabulary of the imported model: tokens per word of the text before and after."""

    new_tokens: int | None = None
    new_rows: int | None = Field(
        default=None, description="Rows added to the embedding; the others were spare."
    )
    vocab_size: int | None = None
    tokens_per_word_before: float | None = None
    tokens_per_word_after: float | None = None
    held_out_tokens_per_word_before: float | None = None
    held_out_tokens_per_word_after: float | None = None
    tokens: tuple[str, ...] = Field(default=(), description="The first of the new tokens.")


class CorpusSummary(StageSummary):
    """The text: documents and bytes over all splits, and what was left out."""

    documents: int | None = None
    bytes: int | None = None
    files: int | None = None
    duplicates: int = 0
    validation_duplicates: int = 0
    bad_bytes: int = 0
    headers_stripped: int = 0
    max_document_chars: int | None = None
    train_documents: int | None = None
    splits: dict[str, dict[str, int]] = Field(default_factory=dict)
    split_by: str | None = Field(default=None, description="Whole texts (`text`), or regions of few texts.")
    skipped: tuple[SkippedFile, ...] = ()


class TokenizerSummary(StageSummary):
    """The tokenizer: its size, its efficiency on held-out text, and some texts as tokens."""

    kind: str | None = None
    vocab_size: int | None = None
    bytes_per_token: float | None = None
    tokens_per_word: float | None = None
    unk_share: float | None = Field(
        default=None, description="Of the training text's tokens, those that are UNK."
    )
    samples: tuple[tuple[str, ...], ...] = ()


class TokensSummary(StageSummary):
    """Token shards: tokens over all splits, and the counts of each."""

    tokens: int | None = None
    splits: JsonObject = Field(default_factory=dict)


class ConversationsSummary(StageSummary):
    """A set of conversations: counts by split, and what was skipped."""

    splits: dict[str, int] = Field(default_factory=dict)
    duplicates: int = 0
    validation_fraction: float | None = None
    skipped_rows: dict[str, int] = Field(default_factory=dict)
    skipped_locations: dict[str, list[str]] = Field(default_factory=dict)
    mixture: tuple[dict[str, str | int | float], ...] = ()
    passages: dict[str, int] = Field(
        default_factory=dict, description="Made out of documents: passages by split of the documents."
    )
    pairs: int | None = Field(default=None, description="Pairs of question and answer that were written.")
    kept: int | None = Field(default=None, description="Pairs that pass the checks.")
    rejected: dict[str, int] = Field(default_factory=dict, description="The others, by reason.")
    refusals: dict[str, int] = Field(default_factory=dict)
    test_of_held_out_documents: int | None = None


class PreferencesSummary(ConversationsSummary):
    """A set of rankings."""

    completions: int | None = None
    test_fraction: float | None = None


class ExamplesSummary(StageSummary):
    """A set of examples of a task; `splits` has counts, labels, lengths and scores."""

    task: str | None = None
    examples: int | None = None
    labels: tuple[str, ...] = ()
    splits: JsonObject = Field(default_factory=dict)
    duplicates: int = 0
    conflicting: int = 0
    also_held_out: int = 0
    validation_fraction: float | None = None
    test_fraction: float | None = None


class OveroptimizationWarning(SummaryPart):
    """A step at which reinforcement learning followed its reward too far."""

    warning: str
    step: int
    message: str


class LogitDifferenceSummary(SummaryPart):
    """The largest difference of logits between an adapter's model and the merged one, and where it is."""

    largest: float
    prompt: str
    n_prompts: int
    limit: float


class MergeSummary(SummaryPart):
    """An adapter merged into its base after training."""

    logit_difference: LogitDifferenceSummary


class MixtureRow(SummaryPart):
    """A source of the text that a run read: its tokens, its share of all and the share wished, its epochs, and the loss of
    the finished model on its held-out text.
    """

    name: str
    tokens: int
    share: float
    wished: float
    epochs: float
    bits_per_byte: float | None = None
    perplexity: float | None = None


class FileLoss(SummaryPart):
    """A file of the held-out text whose loss is far from that of the others; `times`: of the files' median."""

    file: str
    documents: int
    bytes: int
    bits_per_byte: float
    times: float


class StepSamples(SummaryPart):
    """What the model wrote after a step of its training."""

    step: int
    tokens: int
    samples: tuple[Sample, ...]


class ResumedRun(SummaryPart):
    """A run that went on with other settings after `step` steps."""

    step: int
    changes: tuple[str, ...]


class TrainingSummary(StageSummary):
    """A stage that trained a model. Further keys are numbers: the metrics of the last validation, such as `accuracy`,
    `reward` and `kl`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Number]

    family: str = "decoder"
    task: str | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    tokens: int | None = None
    steps: int | None = None
    best_step: int | None = None
    resumed_with: ResumedRun | None = None
    skipped_steps: int = 0
    loss: float | None = None
    loss_unit: str = "nats per token"
    predicted_loss: PredictedLoss | None = None
    perplexity: float | None = None
    bits_per_byte: float | None = None
    training_seconds: float | None = None
    predicted_seconds: float | None = None
    predicted_step_seconds: float | None = None
    peak_memory_bytes: int | None = None
    predicted_peak_bytes: int | None = None
    tokens_per_second: float | None = None
    share_of_peak: float | None = None
    compiled: bool = False
    compile_reason: str = ""
    plan: JsonObject = Field(default_factory=dict)
    config: JsonObject = Field(default_factory=dict)
    metrics: tuple[JsonObject, ...] = ()
    validations: tuple[JsonObject, ...] = ()
    samples: tuple[Sample | SamplePair, ...] = ()
    samples_by_step: tuple[StepSamples, ...] = Field(
        default=(), description="What the model wrote at a few points of the run."
    )
    before: JsonObject = Field(default_factory=dict)  # the validation before the first step
    before_after: BeforeAfterSummary | None = None
    expert_load: dict[str, list[float]] = Field(default_factory=dict)
    measured: TaskSummary | None = None
    long_rows: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="By split: rows over the limit, answers cut, rows left out."
    )
    quantization: JsonObject = Field(
        default_factory=dict,
        description="Of quantized weights: size, speed, KL, perplexity and suites, before and after.",
    )
    # continued training
    replay_share: float | None = None
    mixture: tuple[MixtureRow, ...] = ()
    file_losses: tuple[FileLoss, ...] = ()
    earlier_loss: float | None = None
    forgetting: float | None = None
    merge: MergeSummary | None = None
    earlier_documents_seen: int = 0
    # alignment
    method: str | None = None
    reward_eval: JsonObject = Field(default_factory=dict)  # a reward model on the held-out test split
    reward_name: str | None = None
    settings: JsonObject = Field(default_factory=dict)
    warnings: tuple[OveroptimizationWarning, ...] = ()
    ended_by: str | None = None
    curve: tuple[dict[str, float], ...] = ()  # best of n: the reward by n
    constitution: JsonObject = Field(default_factory=dict)
    # distillation
    teacher: dict[str, Number] = Field(default_factory=dict)
    share_of_parameters: float | None = None

    def metric(self, name: str) -> float | None:
        """A metric of the last validation; None where it was not measured."""
        value = getattr(self, name, None)
        return value if isinstance(value, int | float) else None


class LineageEntry(SummaryPart):
    """An artifact of the build, and the digests of those that it was made from."""

    stage: str
    kind: str
    digest: str
    parents: tuple[str, ...] = ()
    path: str = Field(default="", description="The build's folder, if it is not builds/NAME.")
    seconds: float | None = None


_SUMMARY_OF_STAGE: dict[str, type[StageSummary]] = {
    "start": StartSummary,
    "vocabulary": VocabularySummary,
    "corpus": CorpusSummary,
    "tokenizer": TokenizerSummary,
    "shards": TokensSummary,
    "replay_corpus": CorpusSummary,
    "replay_shards": TokensSummary,
    "conversation_shards": TokensSummary,
    "example_shards": TokensSummary,
    "conversations": ConversationsSummary,
    "preferences": PreferencesSummary,
    "examples": ExamplesSummary,
    "evaluate": StageSummary,
    INDEX: IndexSummary,
    ANSWERS: AnswersSummary,
}


def _summary_of(stage: str) -> type[StageSummary]:
    default = StageSummary if stage.startswith(GATE) else TrainingSummary
    return _SUMMARY_OF_STAGE.get(stage, default)


class BuildSummary(SummaryPart):
    """A build: its recipe, what each stage measured, and how good its models are."""

    name: str = "model"
    created: str = ""
    version: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, str | int | float] = Field(default_factory=dict)
    recipe: JsonObject = Field(default_factory=dict, description="The recipe with every default filled in.")
    seconds: float | None = None
    models: dict[str, str] = Field(
        default_factory=dict, description="The stages that made a model, in order."
    )
    stages: dict[str, SerializeAsAny[StageSummary]] = Field(default_factory=dict)
    suites: dict[str, dict[str, SuiteSummary]] = Field(
        default_factory=dict, description="Results by suite and model."
    )
    benchmarks: dict[str, dict[str, BenchmarkSummary]] = Field(
        default_factory=dict, description="Results by benchmark and model."
    )
    suite_mean: dict[str, float] = Field(default_factory=dict, description="Mean accuracy by model.")
    chance: dict[str, float] = Field(default_factory=dict, description="Accuracy of guessing, by suite.")
    against_parent: dict[str, ParentComparison] = Field(
        default_factory=dict, description="Each model compared with the model that it was made from."
    )
    evaluations: tuple[TextEvaluation, ...] = ()
    task: TaskSummary | None = None
    task_of_start: TaskSummary | None = Field(
        default=None, description="The task's metrics of the published model, where it has the head."
    )
    against_start: tuple[FigureComparison, ...] = Field(
        default=(),
        description="Every figure of the published model that the build began with, and of each stage's.",
    )
    lineage: tuple[LineageEntry, ...] = ()
    path: str = Field(default="", description="The build's folder, if it is not builds/NAME.")
    commit: str = ""

    @field_validator("stages", mode="before")
    @classmethod
    def _by_stage(cls, stages: Mapping[str, Any]) -> JsonObject:
        return {
            name: figures if isinstance(figures, StageSummary) else _summary_of(name).model_validate(figures)
            for name, figures in stages.items()
        }

    def training(self, name: str) -> TrainingSummary | None:
        """The summary of a stage that trains; None where it did not run."""
        stage = self.stages.get(name)
        return stage if isinstance(stage, TrainingSummary) else None

    def to_dict(self) -> JsonObject:
        """Plain JSON values, without the keys that were never set."""
        return self.model_dump(mode="json", exclude_unset=True)


def json_schema() -> JsonObject:
    """The JSON schema of `summary.json`, with those of the stages under `$defs`."""
    schema = BuildSummary.model_json_schema()
    summaries: set[type[StageSummary]] = {TrainingSummary, *_SUMMARY_OF_STAGE.values()}
    for summary in summaries:
        own = summary.model_json_schema()
        schema["$defs"] |= own.pop("$defs", {}) | {summary.__name__: own}
    stages = schema["properties"]["stages"]
    stages["properties"] = {
        name: {"$ref": f"#/$defs/{summary.__name__}"} for name, summary in _SUMMARY_OF_STAGE.items()
    }
    stages["patternProperties"] = {f"^{GATE}": {"$ref": "#/$defs/StageSummary"}}
    stages["additionalProperties"] = {"$ref": "#/$defs/TrainingSummary"}
    return schema


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
