"""Settings of the stages that prepare data, and of the evaluation. Imports no torch."""

from typing import Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.data.config import PrimerConfig
from parakit.data.mixing import check_shares


class ConversationsConfig(Config):
    """What the model is tuned on: files of conversations, or the primer's."""

    paths: tuple[str, ...] = Field(default=(), description="JSON-lines files of conversations.")
    shares: tuple[float, ...] = Field(
        default=(),
        description="In which proportions the paths are mixed, a number for each, for example [3, 1]; none: as they are.",
    )
    primer: PrimerConfig | None = Field(default=None, description="Generate the primer's conversations.")
    validation_fraction: float = Field(default=0.03, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) == bool(self.primer):
            raise ValueError("give either paths or a primer")
        if self.shares:
            try:
                check_shares(self.shares, self.paths)
            except UserError as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
        return self


class ExamplesConfig(Config):
    """What the model is tuned on for a task other than chat: files of examples, or the primer's."""

    paths: tuple[str, ...] = Field(
        default=(), description="JSON-lines, CSV or TSV files; translate also takes two files, SOURCE:TARGET."
    )
    validation_paths: tuple[str, ...] = Field(default=(), description="Files that are the validation split.")
    test_paths: tuple[str, ...] = Field(
        default=(), description="Files that only the finished model meets: it is measured on them."
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

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) == bool(self.primer):
            raise ValueError("give either paths or a primer")
        return self


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
