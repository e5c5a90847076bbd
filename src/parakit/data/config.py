"""Settings of a corpus: what to read, what is left out, and how it is split."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.settings import Config


class TextConfig(Config):
    """Which files of text are read and how they become a corpus."""

    paths: tuple[str, ...] = Field(default=(), description="Files and folders to read.")
    validation_paths: tuple[str, ...] = Field(
        default=(), description="Files that are the validation split; none of their documents is trained on."
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Patterns such as 'drafts/*' or '*.min.js' of what to skip inside folders."
    )
    text_field: str = Field(default="text", description="The field (JSON lines) or column (Parquet) to read.")
    deduplicate: bool = Field(default=True, description="Keep one of several documents with equal text.")
    strip_gutenberg: bool = Field(
        default=True, description="Leave out Project Gutenberg's own header and licence around a book."
    )
    newlines: Literal["unix", "keep"] = Field(
        default="unix", description="'unix' turns Windows line ends into plain ones; 'keep' leaves them."
    )
    max_document_chars: int = Field(
        default=20_000, ge=1, description="Longer texts are cut into documents, at paragraphs where possible."
    )
    validation_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of documents for validation."
    )
    test_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of documents for the test split."
    )
    min_corpus_bytes: int = Field(default=1_000, ge=1, description="A smaller training split is an error.")
    max_line_bytes: int = Field(
        default=16 * 2**20, ge=16, description="A longer line is left out, and counted; it bounds the memory."
    )
    max_expansion: int = Field(
        default=200, ge=1, description="A compressed file that grows by more than this factor is left out."
    )

    @model_validator(mode="after")
    def _leaves_training_text(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction = {self.validation_fraction} and test_fraction = {self.test_fraction} "
                "leave nothing to train on"
            )
        return self
