"""The parts of a build's summary that belong to no single stage: samples, suites, texts, tasks and comparisons."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from parakit.common.files import JsonObject

Number = int | float | None


class SummaryPart(BaseModel):
    """Frozen; a key that is not its own is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageSummary(SummaryPart):
    """What every stage has: its time, its folder below the build, and the digest of what it made."""

    seconds: float | None = None
    path: str | None = Field(default=None, description="The build's folder, if it is not builds/NAME.")
    digest: str | None = None


class Sample(SummaryPart):
    """A prompt and the model's completion; with the expected answer where there is one."""

    prompt: str
    completion: str
    answer: str = ""
    correct: bool | None = None


class SamplePair(SummaryPart):
    """Completions of one prompt before and after reinforcement learning, with their rewards."""

    prompt: str
    before: str
    after: str
    reward_before: float
    reward_after: float


class SkippedFile(SummaryPart):
    """A file that was left out of the corpus, and why."""

    source: str
    reason: str


class AnswerPair(SummaryPart):
    """A held-out prompt with the model's answers before and after the run."""

    prompt: str
    before: str
    after: str


class BeforeAfterSummary(SummaryPart):
    """What a run changed. Losses of the held-out data are in the unit of the stage, those of the general text in nats per
    token; `forgotten` is by how much the latter rose.
    """

    loss_before: Number = None
    loss_after: Number = None
    general_before: Number = None
    general_after: Number = None
    general_tokens: int | None = None
    forgotten: Number = None
    answers: tuple[AnswerPair, ...] = ()
    skipped: tuple[str, ...] = Field(default=(), description="What was not measured, and why.")
    seconds: float | None = Field(default=None, description="What measuring took.")


class SuiteSummary(SummaryPart):
    """One model's accuracy on a suite, with a 95 % interval, and some of its answers."""

    accuracy: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    prompting: str = ""
    samples: tuple[Sample, ...] = ()
    contamination: JsonObject | None = Field(
        default=None, description="How many of its items are in the text that the model was trained on."
    )


class BenchmarkScore(SummaryPart):
    """A score with its 95 % interval over `n` items."""

    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool = True


class BenchmarkSummary(BenchmarkScore):
    """One model's main score on a benchmark, all of its scores, and what they belong to."""

    metric: str
    n_truncated: int = Field(
        default=0, description="Prompts that lost their beginning to the context window."
    )
    scores: dict[str, BenchmarkScore] = Field(default_factory=dict, description="All scores, by metric.")
    protocol: JsonObject = Field(
        default_factory=dict,
        description="What decides a score besides the model: program, task version, shots, prompting, digests.",
    )
    contamination: JsonObject | None = Field(
        default=None, description="How many of its items are in the text that the model was trained on."
    )


class Difference(SummaryPart):
    """A model's score minus that of its parent on the same items; `p_value` is that of the test alone, and
    `corrected_p_value` that of all tests of the pair, from which the verdict follows.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    corrected_p_value: float | None = None
    verdict: Literal["better", "worse", "cannot tell"] | None = None
    unit: str = Field(default="share", description="`share` of right items, or empty for other scores.")


class ParentComparison(SummaryPart):
    """A model against the model that it was made from, by suite and over all of them."""

    parent: str
    verdict: Literal["better", "worse", "cannot tell"] | None = None
    suites: dict[str, Difference] = Field(default_factory=dict, description="Differences by suite.")
    benchmarks: dict[str, Difference] = Field(
        default_factory=dict, description="Differences of main scores by benchmark."
    )
    all: Difference


class LossChange(SummaryPart):
    """A model's loss on a text minus that of the model `against`, with its 95 % interval over blocks of the text: the noise
    of the evaluation set. What the seed of a run changes is not in it.
    """

    against: str
    difference: float
    low: float
    high: float
    unit: str
    n_blocks: int
    p_value: float


class TextEvaluation(SummaryPart):
    """One model's loss on one text: of the text alone, or (`counted` turns) of the assistant's turns with their ends.
    `end_nats_per_token`: the cost of each of `n_end_tokens`.
    """

    name: str
    model: str
    bytes: int
    bits_per_byte: float | None = None
    perplexity: float | None = None
    loss_nats_per_token: float | None = None
    n_tokens: int | None = None
    n_bytes: int | None = None
    n_unknown: int = 0
    counted: str = "text"
    n_documents: int | None = None
    n_end_tokens: int = 0
    end_nats_per_token: float | None = None
    low: float | None = Field(default=None, description="95 % interval of the nats per token.")
    high: float | None = None
    change: LossChange | None = None


class TaskMetric(SummaryPart):
    """A metric of a task, with a 95 % interval where there is one. `unit`: share (of 1), points (of 100) or number;
    `chance`: its value for a model that does not look at the input.
    """

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = "number"
    note: str = ""
    chance: float | None = None


class TaskSample(SummaryPart):
    """An example with the model's prediction; `correct` is None where there is no right or wrong."""

    input: Any
    prediction: Any
    expected: Any
    correct: bool | None = None


class TaskSummary(SummaryPart):
    """The fine-tuned model on held-out examples. `confusion`: rows are expected labels, columns predicted ones."""

    task: str
    split: str
    n: int
    figures: tuple[TaskMetric, ...] = ()
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    samples: tuple[TaskSample, ...] = ()


class FigureComparison(SummaryPart):
    """One figure of every model that has it, next to the same figure of the published model that the build began with.
    `unit`: bits per byte, nats per token, share (of 1), points (of 100) or number; `differences`: minus the start's.
    """

    name: str
    unit: str
    lower_is_better: bool
    values: dict[str, float] = Field(description="By model, in pipeline order; `start` is the first.")
    differences: dict[str, float]
    intervals: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="95 % intervals of the differences: the noise of the evaluation set.",
    )


class PredictedLoss(SummaryPart):
    """The loss that a law predicts for a run, with a 95 % interval, in the unit of the run's loss."""

    value: float
    low: float
    high: float
    law: str
