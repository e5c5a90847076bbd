"""What a speaker can do: answer conversations, and choose between given answers.

A target of attacks, a judge and a critic are all speakers. A model of ours chooses by the probability that it gives
each choice; an endpoint, whose probabilities nobody can rely on, by saying one of them. None stands for what could not
be asked (over the context window) or not be understood, and is counted by whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from parakit.data.conversations.conversation import Message

Messages = Sequence[Message]
OnProgress = Callable[[int], object]


class ChatModel(Protocol):
    """`name` stands in transcripts and reports."""

    @property
    def name(self) -> str: ...

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        advance: OnProgress | None = None,
    ) -> list[str | None]:
        """An answer to each conversation; None for one that the context window cannot hold."""
        ...

    def score_choices(
        self, conversations: Sequence[Messages], choices: Sequence[str]
    ) -> list[tuple[float, ...] | None]:
        """For each conversation the probability of every choice among the choices; None: not understood."""
        ...


def open_chat_model(where: str, *, model: str | None = None, device: str = "cpu") -> ChatModel:
    """A speaker from a URL (http:// or https://), or from a model folder. `model`: the model's name at the endpoint."""
    if where.startswith(("http://", "https://")):
        from parakit.alignment.chat_models.openai import OpenAIChatConfig, OpenAIChatModel

        return OpenAIChatModel(OpenAIChatConfig(url=where, model=model))
    from parakit.alignment.chat_models.local import LocalChatModel

    return LocalChatModel.load(Path(where), device)
