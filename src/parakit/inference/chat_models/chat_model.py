"""The interface of a chat model for red teaming and constitutional training: generate answers, score given choices.

A local model scores choices by their probability. An endpoint, which rarely returns log-probabilities, generates one of
them instead. None stands for a conversation that exceeds the context window or an answer that matches no choice;
callers count these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from parakit.common.progress import OnProgress
from parakit.data.conversations.conversation import Message

Messages = Sequence[Message]
BYTES_A_TOKEN = 3  # of a model behind an endpoint, whose tokenizer is not known: a cautious estimate


def estimated_tokens(messages: Messages) -> int:
    """A cautious number of tokens of a conversation, for a model whose tokenizer is not known."""
    return sum(len(one.content.encode()) // BYTES_A_TOKEN + 8 for one in messages)


class ChatModel(Protocol):
    """A target of attacks, a judge or a critic."""

    @property
    def name(self) -> str:
        """Appears in transcripts and reports."""
        ...

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[str | None]:
        """An answer to each conversation; None where it exceeds the context window. `on_progress` receives the number
        of conversations just answered.
        """
        ...

    def score_choices(
        self, conversations: Sequence[Messages], choices: Sequence[str]
    ) -> list[tuple[float, ...] | None]:
        """For each conversation a probability of every choice; None where there is none."""
        ...
