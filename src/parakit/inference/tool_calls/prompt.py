"""The part of a prompt that tools need: given to the chat template, or in the plain form where it has none of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message
from parakit.data.conversations.plain_tools import with_plain_tools
from parakit.inference.tool_calls.syntax import CallSyntax
from parakit.inference.tool_calls.tools import Tool


@dataclass(frozen=True)
class ToolPrompt:
    """Messages for the chat template, and its `tools`."""

    messages: list[Message]
    tools: list[JsonObject] | None


def tool_prompt(messages: Sequence[Message], tools: Sequence[Tool], syntax: CallSyntax) -> ToolPrompt:
    """A conversation with tools, calls and results in the form of a syntax."""
    named = _with_names(messages)
    if syntax.is_templates:
        return ToolPrompt(named, [tool.to_row() for tool in tools] or None)
    return ToolPrompt(with_plain_tools(named, [tool.to_row() for tool in tools]), None)


def _with_names(messages: Sequence[Message]) -> list[Message]:
    """Results name the function whose call they answer: some templates write it, and OpenAI's messages leave it out."""
    names, named = dict[str | None, str](), []
    for message in messages:
        names.update((call.id, call.name) for call in message.tool_calls)
        if message.role == "tool" and message.name is None and message.tool_call_id in names:
            message = replace(message, name=names[message.tool_call_id])
        named.append(message)
    return named
