"""Settings of evaluation. Imports no torch."""

from typing import Literal

from pydantic import Field

from parakit.common.settings import Config
from parakit.primer.config import PrimerSuitesConfig


class EvaluationConfig(Config):
    """What to evaluate on: token shards, raw text, examples of the model's task, the primer's suites."""

    tokens: str | None = Field(
        default=None, description="A folder of token shards, made with the model's own tokenizer."
    )
    split: Literal["train", "validation", "test"] = Field(
        default="validation", description="Which split of the shards."
    )
    text: tuple[str, ...] = Field(default=(), description="Files and folders of raw text.")
    examples: str | None = Field(
        default=None, description="A folder of examples of the task that the model was tuned for."
    )
    examples_split: Literal["train", "validation", "test"] | None = Field(
        default=None,
        description="Which split of the examples; none: test where there is one, else validation.",
    )
    n_beams: int = Field(default=1, ge=1, le=1000, description="Beams that translations are searched with.")
    suites: PrimerSuitesConfig | None = Field(default=None, description="Run the primer's held-out suites.")
    prompting: Literal["auto", "chat", "plain"] = Field(
        default="auto",
        description="The form of a suite's questions: the chat template, plain text, or auto: as the model was tuned.",
    )
    max_new_tokens: int = Field(
        default=120,
        ge=1,
        le=100_000,
        description="Longest answer to a suite's question, or translation, in tokens.",
    )
    seq_len: int | None = Field(
        default=None,
        ge=2,
        description="Longest context while measuring loss, in tokens; none: the model's whole window.",
    )
    overlap: int = Field(
        default=0,
        ge=0,
        description="Tokens of context, not counted again, before each further window of a long document.",
    )
    micro_batch_size: int = Field(default=64, ge=1, le=65_536, description="Sequences in one forward pass.")
