"""Settings of an index of documents: what is read, how it is cut into passages, and what finds them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.settings import Config
from parakit.data.cleaning.config import CleaningStep
from parakit.data.cleaning.repair_text import RepairTextConfig
from parakit.data.config import TextConfig

AUTO, NONE = "auto", "none"
MAX_DOCUMENT_CHARS = 4_000_000
Language = Literal[
    "en", "de", "nl", "fr", "es", "pt", "it", "ru", "sv", "no", "da", "tr", "none"
]  # of stop words
Rewrite = Literal["words", "model", "none"]
_READING = ("include", "exclude", "follow_links", "encoding", "text_field", "text_template", "cleaning")


class IndexConfig(Config):
    """What an index is made of. Changing how text is read or cut reads every document again; another encoder computes
    every vector again.
    """

    paths: tuple[str, ...] = Field(default=(), description="Files and folders of documents.")
    include: tuple[str, ...] = Field(
        default=(), description="Patterns of files and folders to read although their names speak against it."
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Patterns of files to skip inside folders, such as 'drafts/*'."
    )
    follow_links: bool = Field(default=False, description="Read what links inside a folder lead to.")
    encoding: str | None = Field(
        default=None, description="The encoding of files that are not Unicode; default: recognized."
    )
    text_field: str = Field(
        default="text", description="The field or column with the text, of files of rows."
    )
    text_template: str | None = Field(
        default=None,
        description="The text of a row as a template over its fields, such as '{title}\\n{body}'.",
    )
    cleaning: tuple[CleaningStep, ...] = Field(
        default=(RepairTextConfig(),),
        description="Cleaning steps of single texts, as in `parakit text`; see docs/cleaning.md.",
    )
    passage_chars: int = Field(
        default=800, ge=100, le=20_000, description="Longest passage in characters, overlap included."
    )
    overlap_chars: int = Field(
        default=120,
        ge=0,
        description="A passage repeats whole sentences from the end of the one before it, up to so many characters.",
    )
    language: Language = Field(
        default="en",
        description="Of the stop words that the search by words leaves out; en also joins plurals with their singulars;"
        " none: all words count as they are.",
    )
    encoder: str = Field(
        default=AUTO,
        description="The model that turns passages into vectors: a folder; auto: the one that PARAKIT_ENCODER names, or"
        " all-MiniLM-L6-v2 in .models; none: words alone.",
    )
    n_passages: int = Field(
        default=5,
        ge=1,
        le=1_000,
        description="Passages of an answer, where a question sets none: as many as the model saw when it was tuned.",
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap_chars > self.passage_chars // 2:
            raise ValueError(
                f"overlap_chars = {self.overlap_chars} is over half of passage_chars = {self.passage_chars}"
            )
        return self

    def text_config(self) -> TextConfig:
        """How the files are read: a text is a document, whatever its length up to four million characters."""
        values = {name: getattr(self, name) for name in _READING if name in self.model_fields_set}
        return TextConfig(paths=self.paths, max_document_chars=MAX_DOCUMENT_CHARS, **values)

    def reads_like(self, other: IndexConfig) -> bool:
        """Whether both make the same passages of the same files."""
        names = (*_READING, "passage_chars", "overlap_chars")
        return all(getattr(self, name) == getattr(other, name) for name in names)


class SearchConfig(Config):
    """How passages are found and ranked."""

    n_passages: int = Field(default=5, ge=1, le=1_000, description="Passages to find.")
    by: Literal["fused", "words", "vectors"] = Field(
        default="fused",
        description="fused: the ranks by words and by vectors together, where the index has both.",
    )
    n_candidates: int = Field(
        default=100, ge=1, le=10_000, description="Passages of each kind of search that are fused."
    )
    reranker: str | None = Field(
        default=None,
        description="The folder of a model that scores a question with a passage; it ranks the first n_reranked again.",
    )
    n_reranked: int = Field(default=20, ge=1, le=1_000, description="Passages that the reranker scores.")


class AskConfig(SearchConfig):
    """How a question is answered."""

    n_passages: int = Field(
        default=5,
        ge=1,
        le=1_000,
        description="Passages of an answer. Where it is not set, as many as the index says.",
    )
    context_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens of the conversation with its passages. Default: the model's context window without"
        " max_new_tokens; of an endpoint, 4096 without them.",
    )
    max_new_tokens: int = Field(default=200, ge=1, description="Length limit of the answer in tokens.")
    temperature: float = Field(default=0.0, ge=0, description="0: the model's likeliest answer.")
    threshold: float | None = Field(
        default=None,
        description="Refuse a question whose score is below this, in place of the index's fitted threshold; 0: none.",
    )
    rewrite: Rewrite = Field(
        default="words",
        description="Queries of follow-up questions: words adds those of earlier questions, model lets the model rewrite"
        " them, none takes them as they are.",
    )
