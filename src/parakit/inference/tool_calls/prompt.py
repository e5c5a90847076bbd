"""The part of a prompt that tools need: given to the chat template, or described in the system prompt.

Where the template has no form of its own, the system prompt lists the tools and the syntax, calls of the history are a part of
the assistant's text, and results come as the user's turns, so that a template with turns that alternate takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message
from parakit.inference.tool_calls.syntax import CallSyntax, compact, write_calls
from parakit.inference.tool_calls.tools import Tool, tool_line

_HEAD = "You can call these functions, one JSON object a line:"
_TAIL = (
    "To call a function, write its name and its arguments as JSON, for each call:\n"
    '<tool_call>\n{"name": "NAME", "arguments": {...}}\n</tool_call>\n'
    "You get each result between <tool_response> and </tool_response>. Answer in words when no function is needed."
)


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
    turns = _described(named, syntax)
    if tools:
        text = "\n".join([_HEAD, *map(tool_line, tools), "", _TAIL])
        if turns and turns[0].role == "system":
            # the tools first: a date in the system prompt then leaves their pages in the cache
            turns[0] = replace(turns[0], content=f"{text}\n\n{turns[0].content}".rstrip())
        else:
            turns.insert(0, Message("system", text))
    return ToolPrompt(turns, None)


def _with_names(messages: Sequence[Message]) -> list[Message]:
    """Results name the function whose call they answer: some templates write it, and OpenAI's messages leave it out."""
    names, named = dict[str | None, str](), []
    for message in messages:
        names.update((call.id, call.name) for call in message.tool_calls)
        if message.role == "tool" and message.name is None and message.tool_call_id in names:
            message = replace(message, name=names[message.tool_call_id])
        named.append(message)
    return named


def _described(messages: Sequence[Message], syntax: CallSyntax) -> list[Message]:
    turns: list[Message] = []
    for message in messages:
        if message.tool_calls:
            calls = [(call.name, compact(call.arguments)) for call in message.tool_calls]
            content = "\n".join(filter(None, [message.content, write_calls(syntax, calls)]))
            message = replace(message, content=content, tool_calls=())
        elif message.role == "tool":
            content = f"<tool_response>\n{message.content}\n</tool_response>"
            if turns and turns[-1].role == "user" and turns[-1].content.endswith("</tool_response>"):
                turns[-1] = replace(turns[-1], content=f"{turns[-1].content}\n{content}")
                continue
            message = Message("user", content)
        turns.append(message)
    return turns
