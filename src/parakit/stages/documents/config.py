"""Settings of an assistant for documents in a recipe: its index, and the conversations that are made out of it.

Imports no torch.
"""

from __future__ import annotations

from pydantic import Field

from parakit.assistants.retrieval.config import IndexConfig
from parakit.common.settings import Config


class AssistantIndexConfig(IndexConfig):
    """The index of a recipe: the documents, how they are searched, and the questions that fit and measure it."""

    questions: str | None = Field(
        default=None,
        description='Your own questions, JSON lines {"question": ..., "relevant": [FILE, ...], "answers": [...]}: every other'
        " one fits the threshold, the rest measures the finished assistant. Default: rules make them; those that measure are"
        " about passages that are held out of training.",
    )
    n_questions: int = Field(
        default=100, ge=1, description="Made questions at most, to fit the threshold and to measure."
    )
    max_refused: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the questions with an answer that may be refused."
    )

    def index_config(self) -> IndexConfig:
        """The settings of the index alone, every one of them set, so that none of an earlier index is kept."""
        return IndexConfig.parse({name: getattr(self, name) for name in IndexConfig.model_fields}, "index")


class IndexConversationsConfig(Config):
    """Conversations out of the recipe's index: questions with the passages that the search finds, answers with citations,
    and refusals where the passages lack the answer. Each has as many passages as an answer (`index.n_passages`).
    """

    wordings: int = Field(default=2, ge=1, le=8, description="Questions about each fact at most.")
    refusal_share: float = Field(
        default=0.3, ge=0, lt=1, description="Share of the conversations whose passages lack the answer."
    )
    max_questions: int = Field(
        default=1_000, ge=1, description="Questions at most, drawn over all documents."
    )
    validation_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the conversations that is held out."
    )
