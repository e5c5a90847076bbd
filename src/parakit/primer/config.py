"""Settings of the primer, the built-in closed world.

The same settings give the same documents, conversations and suites on any machine and in any process.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from parakit.common.settings import Config


class PrimerSeed(Config):
    """`seed` changes every draw, but neither the world's facts nor which combinations are held out."""

    seed: int = 0


class PrimerDocumentsConfig(PrimerSeed):
    """Text to pre-train on."""

    n_documents: int = Field(default=25_000, ge=1)
    n_tool_documents: int = Field(
        default=0,
        ge=0,
        description="Further documents: tasks that are solved by calls of functions, written out.",
    )


class PrimerConversationsConfig(PrimerSeed):
    """Conversations to fine-tune on."""

    kind: Literal["chat", "tools"] = Field(
        default="chat",
        description="Questions and small talk, or tasks that are solved by calls of functions.",
    )
    max_tasks: int = Field(
        default=1, ge=1, le=20, description="Of kind tools: tasks that follow each other in one conversation."
    )
    n_conversations: int = Field(default=22_000, ge=1)


class PrimerSuitesConfig(PrimerSeed):
    """Held-out questions, so many in each of the eight suites."""

    n_suite_items: int = Field(default=250, ge=8)


class PrimerExamplesConfig(PrimerSeed):
    """Training and held-out rows of a task, or preferences."""

    n_examples: int = Field(default=16_000, ge=1)
    n_test_examples: int = Field(default=1_000, ge=1)


class PrimerConfig(
    PrimerDocumentsConfig, PrimerConversationsConfig, PrimerSuitesConfig, PrimerExamplesConfig
):
    """All of it."""
