"""Settings of question-and-answer pairs made from documents."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.choices import ChoiceConfig
from parakit.common.errors import UserError
from parakit.common.settings import Choices, Config

DEFAULT_TEMPLATE = """\
Read the passage and write {n} short questions that it answers, each with its answer. Every question must be clear \
without the passage: name what it is about. Every answer must be a fact of the passage in the passage's own words. Write \
each pair on two lines, the first beginning with "Q:" and the second with "A:", and nothing else.

Passage:
{passage}"""


class WrittenByModel(Config):
    """A model writes the questions."""

    model: str | None = Field(
        default=None,
        description="Who writes them: a chat model's folder, or the URL of an OpenAI-compatible API. Default, in a recipe:"
        " the model that it starts from.",
    )
    model_name: str | None = Field(
        default=None, description="Name of the model at the endpoint. Default: the first that it lists."
    )
    template: str = Field(
        default=DEFAULT_TEMPLATE,
        description="The request, or a file with it: {passage} is replaced by the text, {n} by the number of questions,"
        " {source} by the name of the file.",
    )
    n_questions: int = Field(default=3, ge=1, le=20, description="Questions requested for each passage.")
    max_new_tokens: int = Field(
        default=300, ge=1, description="Length limit of the model's text for a passage in tokens."
    )
    temperature: float = Field(
        default=0.0, ge=0, description="Of the model that writes; 0: its likeliest text."
    )

    @model_validator(mode="after")
    def _template_has_a_passage(self) -> Self:
        if self.template_text().count("{passage}") != 1:
            raise UserError(
                "template: it must have {passage} once, which the text takes the place of",
                "write for example: Write {n} questions about this text, as Q: and A: lines. {passage}",
            )
        return self

    def template_text(self) -> str:
        """The template, read from its file where it names one."""
        if "\n" in self.template or "{" in self.template:
            return self.template
        path = Path(self.template).expanduser()
        if not path.is_file():
            raise UserError(
                f"template: {self.template}: no such file", "give a file, or a text with {passage}"
            )
        return path.read_text(encoding="utf-8")

    def request(self, passage: str, source: str) -> str:
        """The request for one passage; what looks like a placeholder inside of it stays as it is."""
        before, after = self.template_text().split("{passage}")
        filled = [
            part.replace("{n}", str(self.n_questions)).replace("{source}", source) for part in (before, after)
        ]
        return passage.join(filled)


class WrittenByRules(Config):
    """Plain patterns find statements and word questions about them; no model is needed. English."""

    max_facts: int = Field(
        default=8, ge=1, description="Facts of each passage at most, drawn from those that were found."
    )
    wordings: int = Field(
        default=4, ge=1, le=8, description="Differently worded questions about each fact at most."
    )


class DocumentQuestionsConfig(ChoiceConfig):
    """How questions with answers are made from the documents of a corpus."""

    choices: ClassVar[Choices] = {"writer": {"model": WrittenByModel, "rules": WrittenByRules}}

    writer: Literal["model", "rules"] = Field(
        default="model",
        description="Who writes the questions: a model, or rules that find dates, numbers, names, definitions, lines"
        " 'key: value' and cells of tables, and word several questions about each.",
    )
    passage_chars: int = Field(default=1_200, ge=100, description="Longest passage in characters.")
    passages_per_document: int = Field(default=4, ge=1, description="Passages of each document at most.")
    max_passages: int = Field(
        default=1_000, ge=1, description="Passages at most, drawn over all documents of a split."
    )
    min_support: float = Field(
        default=1.0, gt=0, le=1, description="Part of an answer's content words that must be in the passage."
    )
    passage_share: float = Field(
        default=0.5, ge=0, le=1, description="Part of the questions that come with the passage before them."
    )
    refusal_share: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="Part of the conversations in which the passage is of another document, and the model is to say that it"
        " lacks the answer.",
    )
    refusal: str = Field(
        default="The passage does not say.", min_length=1, description="What the model is to say then."
    )
    validation_fraction: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Part of the questions about the training documents that is held out.",
    )
