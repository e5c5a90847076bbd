"""Settings of evaluation. Imports no torch."""

from typing import Literal

from pydantic import Field, field_validator

from parakit.common.settings import Config
from parakit.primer.config import PrimerSuitesConfig


class TaskConfig(Config):
    """The standard benchmarks and measures to run, and how their questions are put."""

    tasks: tuple[str, ...] = Field(
        default=(),
        description="Parakit's measures, and tasks of lm-eval by name (mmlu, gsm8k, hellaswag, ...) or YAML file.",
    )
    data: str | None = Field(
        default=None,
        description="A folder of benchmark data (docs/evaluation.md lists its files). Else the hub's cache is read.",
    )
    limit: int | None = Field(default=None, ge=1, le=10**9, description="At most so many items of each task.")
    n_shots: int | None = Field(
        default=None, ge=0, le=1000, description="Examples in a prompt. Default: as each task says."
    )
    n_samples: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Completions of each problem of humaneval and mbpp; several are sampled, for pass@10 and pass@100.",
    )
    system_prompt: str | None = Field(default=None, description="A system prompt before every question.")
    fetch: bool = Field(
        default=False, description="Download task data that is absent, with the hub's library."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of items, and of drawn questions.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Names may be separated by commas."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple):
            return value
        return [name.strip() for text in texts for name in str(text).split(",") if name.strip()]


class EvaluationConfig(TaskConfig):
    """What to evaluate on: token shards, raw text, examples of the model's task, the primer's suites, benchmarks."""

    tokens: str | None = Field(
        default=None, description="A folder of token shards, made with the model's own tokenizer."
    )
    split: Literal["train", "validation", "test"] = Field(
        default="validation", description="Split of the shards."
    )
    text: tuple[str, ...] = Field(default=(), description="Files and folders of raw text.")
    examples: str | None = Field(
        default=None, description="A folder of examples of the task that the model was tuned for."
    )
    examples_split: Literal["train", "validation", "test"] | None = Field(
        default=None,
        description="Split of the examples. Default: test, or validation if there is no test split.",
    )
    n_beams: int = Field(
        default=1, ge=1, le=1000, description="Beams of the search for translations; 1: greedy."
    )
    suites: PrimerSuitesConfig | None = Field(default=None, description="Run the primer's held-out suites.")
    prompting: Literal["auto", "chat", "plain"] = Field(
        default="auto",
        description="Form of the questions of suites and tasks: the chat template, plain "
        "text, or (auto) the form that the model was tuned for.",
    )
    max_new_tokens: int = Field(
        default=120,
        ge=1,
        le=100_000,
        description="Length limit of an answer or a translation in tokens.",
    )
    seq_len: int | None = Field(
        default=None,
        ge=2,
        description="Context window for the loss, in tokens. Default: the model's.",
    )
    overlap: int = Field(
        default=0,
        ge=0,
        description="Context tokens of each further window of a long document, which are not counted again: the stride "
        "is the window minus these.",
    )
    max_document_chars: int | None = Field(
        default=None,
        ge=1,
        description="Cut longer texts into documents, each read with nothing before it. Default: a file, or a row, is one.",
    )
    text_start: Literal["tokenizer", "bos"] = Field(
        default="tokenizer",
        description="What precedes a text: what its tokenizer puts there, else the first token does not count; bos: BOS, "
        "or EOS where there is none, as in lm-eval.",
    )
    micro_batch_size: int = Field(default=64, ge=1, le=65_536, description="Sequences per forward pass.")
