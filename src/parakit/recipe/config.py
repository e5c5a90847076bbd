"""The recipe: a model's whole life as one YAML file. Imports no torch.

Every section is the settings group of the room that reads it, so a word means the same here, on the command
line and in code. Paths are relative to where the command runs. What is left out is chosen: from the text,
from the time that was given, from the size.
"""

import re
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.text.config import PrimerConfig, TextConfig
from parakit.tokens.config import TokenizerConfig
from parakit.training.config import TrainingConfig


class ConversationsConfig(Config):
    """What the model is tuned on: files of conversations, or the primer's."""

    paths: tuple[str, ...] = Field(default=(), description="JSON-lines files of conversations.")
    primer: PrimerConfig | None = Field(default=None, description="Generate the primer's conversations.")
    validation_fraction: float = Field(default=0.03, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) == bool(self.primer):
            raise ValueError("give either paths or a primer")
        return self


class EvaluateConfig(Config):
    """What the finished models are measured on, beside the held-out split."""

    suites: PrimerConfig | None = Field(default=None, description="The primer's held-out suites.")
    texts: tuple[str, ...] = Field(
        default=(), description="Files or folders of text that was not trained on."
    )
    max_new_tokens: int = Field(default=100, ge=1, description="Longest answer to a suite's question.")


class RecipeConfig(Config):
    """One model's life, from text to report."""

    name: str = Field(default="my-model", description="The build goes to builds/NAME.")
    seed: int = Field(default=0, ge=0, description="Decides every draw: order, initial weights, samples.")
    size: str | None = Field(
        default=None, description="Parameters, for example 5m; none: from the time and the text."
    )
    time: str | None = Field(default=None, description="Time for the whole build, for example 30min or 2h.")
    max_seq_len: int = Field(default=256, ge=8, description="The context window, in tokens.")
    text: TextConfig = Field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    pretrain: TrainingConfig = Field(default_factory=TrainingConfig)
    conversations: ConversationsConfig | None = None
    finetune: TrainingConfig | None = Field(
        default=None, description="Settings of tuning; needs conversations."
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    prompts: tuple[str, ...] = Field(
        default=(), description="Prompts to sample from the base model for the report."
    )
    questions: tuple[str, ...] = Field(
        default=(), description="Questions to ask the tuned model for the report."
    )

    @field_validator("size", mode="before")
    @classmethod
    def _size_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError("a name is letters, digits, '.', '_' and '-' only: it becomes a folder")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.finetune is not None and self.conversations is None:
            raise ValueError(
                "finetune: is set and nothing reads it, for there are no conversations: add that section or drop this one"
            )
        return self


def parse_time(time: str) -> float:
    """`"30min"`, `"90s"`, `"1.5h"` -> seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)\s*", time.lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"time {time!r} is not a length of time", "write for example 90s, 30min or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]
