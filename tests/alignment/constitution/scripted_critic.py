"""A critic that says what a test wants, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from parakit.data.conversations.conversation import Message

Says = Callable[[Sequence[Message]], str | None]
Chooses = Callable[[Sequence[Message]], tuple[float, ...] | None]


class ScriptedCritic:
    """Answers each conversation with `says`, and chooses with `chooses`."""

    name = "script"

    def __init__(self, says: Says = lambda _: "No.", chooses: Chooses = lambda _: None) -> None:
        self.says, self.chooses = says, chooses
        self.requests: list[Sequence[Message]] = []

    def generate(self, conversations: Sequence[Sequence[Message]], **_: Any) -> list[str | None]:
        self.requests += conversations
        return [self.says(one) for one in conversations]

    def score_choices(
        self, conversations: Sequence[Sequence[Message]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | None]:
        self.requests += conversations
        return [self.chooses(one) for one in conversations]
