"""The recipe: a model's whole life as one YAML file. Imports no torch.

Every section is the settings group of the room that reads it, so a word means the same here, on the command
line and in code. Paths are relative to where the command runs. What is left out is chosen: from the text,
from the time that was given, from the size.
"""

import re
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config, unread
from parakit.text.config import PrimerConfig, TextConfig
from parakit.tokens.config import TokenizerConfig
from parakit.training.config import TrainingConfig, resolve

# What the primer is asked for, by the section that asks.
_PRIMER_PART = {
    "text.primer": "n_documents",
    "conversations.primer": "n_conversations",
    "evaluate.suites": "n_suite_items",
}
_READ_WITH_A_PRIMER = {"primer", "deduplicate", "validation_fraction", "test_fraction", "validation_paths"}
_READ_WITH_A_PRIMER |= {"min_corpus_bytes"}


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
                "`finetune` is set, and nothing reads it without conversations: add that section or drop this one"
            )
        return self


def parse_time(time: str) -> float:
    """`"30min"`, `"90s"`, `"1.5h"` -> seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)\s*", time.lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"time {time!r} is not a length of time", "write for example 90s, 30min or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]


def unread_keys(recipe: RecipeConfig) -> Iterator[tuple[str, str]]:
    """Every key that was set though no stage reads it in this recipe, with the reason."""
    yield from _unread_text(recipe.text)
    for section, primer in _primers(recipe).items():
        for key in sorted(primer.model_fields_set - {"seed", _PRIMER_PART[section]}):
            yield (
                f"{section}.{key}",
                f"this section takes only seed and {_PRIMER_PART[section]} of the primer",
            )
    yield from _unread_tokenizer(recipe.tokenizer)
    for section in ("pretrain", "finetune"):
        training = getattr(recipe, section)
        for key in unread_training(training) if training else ():
            yield f"{section}.{key}", f"with optimizer: {training.optimizer}, schedule: {training.schedule}"
    if recipe.time and recipe.size and says_how_long(recipe.pretrain):
        yield "time", "the size and the length of pre-training are both given"
    if recipe.questions and recipe.conversations is None:
        yield "questions", "without conversations there is no tuned model to ask"
    if "max_new_tokens" in recipe.evaluate.model_fields_set and recipe.evaluate.suites is None:
        yield "evaluate.max_new_tokens", "there are no suites"


def unread_training(config: TrainingConfig) -> list[str]:
    """The keys of a training section that were set and that its optimizer and schedule never look at.
    Drawing up a plan reads what counts.
    """
    watched = config.replace()  # what others read of it is not ours to know
    resolve(
        watched,
        learning_rate=1.0,
        embedding_learning_rate=1.0,
        batch_tokens=1 << 20,
        max_seq_len=config.seq_len or 8,
        n_train_tokens=10**15,  # whether the text is enough is known later, and said then
    )
    return [key for key in unread(watched) if getattr(config, key) is not None]


def says_how_long(training: TrainingConfig) -> bool:
    """Whether the settings themselves say how long to train, so that no time is needed for that."""
    return bool(training.max_steps or training.max_tokens or training.epochs)


def _primers(recipe: RecipeConfig) -> dict[str, PrimerConfig]:
    conversations = recipe.conversations.primer if recipe.conversations else None
    found = (recipe.text.primer, conversations, recipe.evaluate.suites)
    return {section: primer for section, primer in zip(_PRIMER_PART, found, strict=True) if primer}


def _unread_text(text: TextConfig) -> Iterator[tuple[str, str]]:
    if text.primer and not text.validation_paths:
        for key in sorted(text.model_fields_set - _READ_WITH_A_PRIMER):
            if getattr(text, key) != TextConfig.model_fields[key].default:
                yield f"text.{key}", "the primer is generated, not read from files"
    if text.validation_paths and "validation_fraction" in text.model_fields_set:
        yield "text.validation_fraction", "validation_paths are the validation split"


def _unread_tokenizer(tokenizer: TokenizerConfig) -> Iterator[tuple[str, str]]:
    if "ties" in tokenizer.model_fields_set and tokenizer.kind != "byte_bpe":
        yield "tokenizer.ties", f"a {tokenizer.kind} tokenizer has no such ties"
    if "split_digits" in tokenizer.model_fields_set and tokenizer.kind == "char":
        yield "tokenizer.split_digits", "each character is a token of its own"
