"""Settings of the stages that prepare data, from files or from the built-in primer, and of the evaluation."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.data.config import TextConfig
from parakit.data.mixing import check_shares
from parakit.primer.config import PrimerConfig


class CorpusConfig(TextConfig):
    """Where the text comes from and how it becomes a corpus. Either `paths` or a `primer`, not both."""

    primer: PrimerConfig | None = Field(default=None, description="Generate the built-in primer instead.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.primer and self.paths:
            raise ValueError("give either paths or a primer, not both")
        return self


class _OneSource(Config):
    """Either files or the primer."""

    paths: tuple[str, ...] = ()
    primer: PrimerConfig | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) == bool(self.primer):
            raise ValueError("give either paths or a primer")
        return self


class ConversationsConfig(_OneSource):
    """Conversations to fine-tune on: from files, or the primer's."""

    paths: tuple[str, ...] = Field(default=(), description="JSON-lines files of conversations.")
    shares: tuple[float, ...] = Field(
        default=(),
        description="Proportions in which the paths are mixed, a number for each, for example [3, 1]; none: as they are.",
    )
    primer: PrimerConfig | None = Field(default=None, description="Generate the primer's conversations.")
    validation_fraction: float = Field(default=0.03, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_share_a_path(self) -> Self:
        if self.shares:
            try:
                check_shares(self.shares, self.paths)
            except UserError as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
        return self


class ExamplesConfig(_OneSource):
    """Examples of a task other than chat to fine-tune on: from files, or the primer's."""

    paths: tuple[str, ...] = Field(
        default=(), description="JSON-lines, CSV or TSV files; translate also takes two files, SOURCE:TARGET."
    )
    validation_paths: tuple[str, ...] = Field(default=(), description="Files that are the validation split.")
    test_paths: tuple[str, ...] = Field(
        default=(), description="Files that are the test split, on which the finished model is measured."
    )
    primer: PrimerConfig | None = Field(default=None, description="Generate the primer's examples.")
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    test_fraction: float = Field(default=0.05, ge=0, lt=1)
    labels: tuple[str, ...] | None = Field(
        default=None, description="classify, tag: the labels in their order; none: those of the train split."
    )
    columns: tuple[str, ...] | None = Field(
        default=None, description="Of tables without a header: their columns."
    )
    reverse: bool = Field(default=False, description="translate: from the target to the source.")


class EvaluateConfig(Config):
    """What the finished models are evaluated on, besides the validation split."""

    suites: PrimerConfig | None = Field(default=None, description="The primer's held-out suites.")
    texts: tuple[str, ...] = Field(
        default=(), description="Files or folders of text that was not trained on."
    )
    max_new_tokens: int = Field(
        default=100, ge=1, description="Longest answer to a suite's question, or longest translation."
    )
    n_beams: int = Field(
        default=1, ge=1, description="Beams that translations are searched with; 1: greedily."
    )
