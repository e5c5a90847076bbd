"""The primer's data as sources for the functions of `data` that prepare a corpus or a set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from parakit.data.conversations.conversation import Conversation
from parakit.data.documents import Document
from parakit.data.examples.formats import ExampleRow
from parakit.data.preferences.rankings import Ranking
from parakit.data.sources import GeneratedSource
from parakit.primer.config import (
    PrimerConversationsConfig,
    PrimerDocumentsConfig,
    PrimerExamplesConfig,
    PrimerSeed,
)
from parakit.primer.examples import generate_examples, generate_preferences
from parakit.primer.generation import generate_conversations, generate_documents

NAME = "primer"
Item = TypeVar("Item")


def primer_documents(config: PrimerDocumentsConfig) -> GeneratedSource[Document]:
    """Documents for `prepare_corpus`."""
    return _source(config, partial(generate_documents, config))


def primer_conversations(config: PrimerConversationsConfig) -> GeneratedSource[Conversation]:
    """Conversations for `prepare_conversations`."""
    return _source(config, partial(generate_conversations, config))


def primer_examples(config: PrimerExamplesConfig, task: str) -> GeneratedSource[ExampleRow]:
    """Examples of `task` for `prepare_examples`."""
    return _source(
        config,
        partial(generate_examples, config, task),
        partial(generate_examples, config, task, held_out=True),
    )


def primer_preferences(config: PrimerExamplesConfig) -> GeneratedSource[Ranking]:
    """Rankings for `prepare_preferences`."""
    return _source(
        config, partial(generate_preferences, config), partial(generate_preferences, config, held_out=True)
    )


def _source(
    config: PrimerSeed,
    generate: Callable[[], Iterable[Item]],
    held_out: Callable[[], Iterable[Item]] | None = None,
) -> GeneratedSource[Item]:
    return GeneratedSource(NAME, config.model_dump(mode="json"), config.seed, generate, held_out)
