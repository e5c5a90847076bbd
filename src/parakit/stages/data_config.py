"""Settings of the stages that prepare data, from files or from the built-in primer, and of the evaluation."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SerializeAsAny, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.data.config import TextConfig
from parakit.data.conversations.from_documents import DocumentQuestionsConfig
from parakit.data.mixing import check_shares
from parakit.evaluation.comparison.config import GateConfig
from parakit.evaluation.config import TaskConfig
from parakit.primer.config import (
    PrimerConversationsConfig,
    PrimerDocumentsConfig,
    PrimerExamplesConfig,
    PrimerSuitesConfig,
)
from parakit.stages.documents.config import IndexConversationsConfig

# How files are read; generated text needs none of it.
_OF_FILES = {
    "sources",
    "exclude",
    "include",
    "follow_links",
    "text_field",
    "text_template",
    "encoding",
    "email_quotes",
    "max_source_share",
    "strip_gutenberg",
    "newlines",
    "max_document_chars",
    "max_line_bytes",
    "max_expansion",
    "max_members",
    "fetch",
    "fetch_seconds",
    "max_fetch_bytes",
    "private_addresses",
}


class CorpusConfig(TextConfig):
    """Where the text comes from and how it becomes a corpus. Either `paths` or a `primer`, not both."""

    primer: PrimerDocumentsConfig | None = Field(
        default=None, description="Generate the built-in primer instead."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.primer and self.paths:
            raise UserError("give either paths or a primer, not both", "remove one of them")
        if self.primer and not self.validation_paths:
            for name in sorted(self.model_fields_set & _OF_FILES):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise UserError(
                        f"`{name}` is set, and the primer is generated, not read from files", "remove it"
                    )
        _check_one_split(self, "validation")
        return self


class _OneSource(Config):
    """Either files or the primer."""

    paths: tuple[str, ...] = ()
    primer: Config | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        made = (getattr(self, name, None) is not None for name in ("from_documents", "from_index"))
        if sum((bool(self.paths), bool(self.primer), *made)) != 1:
            raise UserError("give either paths or a primer", "for example `paths: [file.jsonl]`")
        return self


class ConversationsConfig(_OneSource):
    """Conversations to fine-tune on: from files, the primer's, or out of the recipe's documents."""

    paths: tuple[str, ...] = Field(default=(), description="JSON-lines files of conversations.")
    shares: tuple[float, ...] = Field(
        default=(),
        description="Proportions in which the paths are mixed, one number "
        "for each path, for example [3, 1]. Default: all rows.",
    )
    primer: PrimerConversationsConfig | None = Field(
        default=None, description="Generate the primer's conversations."
    )
    from_documents: SerializeAsAny[DocumentQuestionsConfig] | None = Field(
        default=None,
        description="Write questions with answers about the documents of `text`, by a model or by rules.",
    )
    from_index: IndexConversationsConfig | None = Field(
        default=None,
        description="Out of the recipe's `index`: questions with passages, answers with citations, and refusals.",
    )
    validation_fraction: float = Field(default=0.03, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_validation_fraction(self) -> Self:
        own = "from_documents" if self.from_documents else "from_index"
        if getattr(self, own) and "validation_fraction" in self.model_fields_set:
            raise UserError(
                "`validation_fraction` is set, and the questions have one of their own",
                f"set {own}.validation_fraction",
            )
        return self

    @model_validator(mode="after")
    def _one_share_a_path(self) -> Self:
        if self.shares:
            check_shares(self.shares, self.paths)
        return self


class ExamplesConfig(_OneSource):
    """Examples of a task other than chat to fine-tune on: from files, or the primer's."""

    paths: tuple[str, ...] = Field(
        default=(), description="JSON-lines, CSV or TSV files; translate also takes two files, SOURCE:TARGET."
    )
    validation_paths: tuple[str, ...] = Field(default=(), description="Files of the validation split.")
    test_paths: tuple[str, ...] = Field(
        default=(), description="Files of the test split, on which the finished model is evaluated."
    )
    primer: PrimerExamplesConfig | None = Field(default=None, description="Generate the primer's examples.")
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    test_fraction: float = Field(default=0.05, ge=0, lt=1)
    labels: tuple[str, ...] | None = Field(
        default=None,
        description="For classify, multi_label and tag: the labels in order. Default: those of the train split.",
    )
    columns: tuple[str, ...] | None = Field(
        default=None, description="Names of the columns of tables without a header."
    )
    reverse: bool = Field(default=False, description="For translate: from the target to the source.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.primer and self.columns is not None:
            raise UserError("`columns` is set, and the primer is generated, not read from files", "remove it")
        if self.primer and "test_fraction" in self.model_fields_set:
            raise UserError(
                "`test_fraction` is set, and the primer holds out its own test split", "remove it"
            )
        for split in ("validation", "test"):
            _check_one_split(self, split)
        return self


class PreferencesConfig(_OneSource):
    """Which of several completions people prefer: from files, or the primer's."""

    paths: tuple[str, ...] = Field(
        default=(), description="JSON-lines or Parquet files of pairs or rankings; see docs/rows.md."
    )
    primer: PrimerExamplesConfig | None = Field(
        default=None, description="Generate the primer's preferences."
    )
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)


class EvaluateConfig(TaskConfig):
    """What the finished models are evaluated on, besides the validation split."""

    suites: PrimerSuitesConfig | None = Field(
        default=None, description="Evaluate on the primer's held-out suites."
    )
    texts: tuple[str, ...] = Field(default=(), description="Files or folders of text that is not trained on.")
    max_new_tokens: int = Field(
        default=100, ge=1, description="Length limit of an answer or a translation in tokens."
    )
    n_beams: int = Field(default=1, ge=1, description="Beams of the search for translations; 1: greedy.")
    contamination: tuple[str, ...] = Field(
        default=("lineage",),
        description="Texts that are searched for the evaluation's items: files, folders, artifacts; lineage: what each model"
        " was trained on; none: no search.",
    )
    gate: GateConfig | None = Field(
        default=None,
        description="Stop the build where a stage's model is worse than the one that it was made from.",
    )


def chosen_limit(config: EvaluateConfig) -> int | None:
    """The length limit of answers where it is not the default one, which is meant for suites."""
    default = EvaluateConfig.model_fields["max_new_tokens"].default
    return config.max_new_tokens if config.max_new_tokens != default else None


def _check_one_split(config: Config, split: str) -> None:
    """`UserError` where a split's files are given and a fraction as well."""
    paths, fraction = f"{split}_paths", f"{split}_fraction"
    if getattr(config, paths) and fraction in config.model_fields_set:
        raise UserError(f"`{fraction}` is set, and {paths} are the {split} split", "keep one of the two")
