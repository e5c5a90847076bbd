"""A model whose turns are written down, for tests of the loop around it."""

from __future__ import annotations

from collections.abc import Sequence

from parakit.assistants.agent.config import AgentConfig
from parakit.assistants.agent.models import ModelTurn
from parakit.data.conversations.messages import Message, ToolCall
from parakit.inference.tool_calls.tools import Tool


class ScriptedModel:
    """Takes these turns in order, the last again and again: a text, or calls (name, arguments)."""

    name = "scripted"

    def __init__(self, *turns: str | list[tuple[str, str]], n_tokens: int = 10) -> None:
        self.turns, self.n_tokens = list(turns), n_tokens
        self.seen: list[list[Message]] = []

    def turn(
        self, messages: Sequence[Message], tools: Sequence[Tool], max_new_tokens: int, config: AgentConfig
    ) -> ModelTurn:
        self.seen.append(list(messages))
        turn = self.turns[min(len(self.seen), len(self.turns)) - 1]
        if isinstance(turn, str):
            return ModelTurn(Message("assistant", turn), 5, self.n_tokens)
        calls = tuple(ToolCall(*call, f"c{len(self.seen)}{i}") for i, call in enumerate(turn))
        return ModelTurn(Message("assistant", "", tool_calls=calls), 5, self.n_tokens)
