"""Tools in a conversation whose chat template does not know them: the plain form, the same in training and in serving.

The system prompt lists the tools and the syntax of a call, calls are a part of the assistant's text, and results come as the
user's turns, so that a template with turns that alternate takes them. The loss then counts calls, and results never.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from parakit.data.conversations.messages import Message

CALL_OPENING = '<tool_call>\n{"name": "'
CALL_BETWEEN = '", "arguments": '
CALL_CLOSING = "}\n</tool_call>"
_HEAD = "You can call these functions, one JSON object a line:"
_TAIL = (
    "To call a function, write its name and its arguments as JSON, for each call:\n"
    '<tool_call>\n{"name": "NAME", "arguments": {...}}\n</tool_call>\n'
    "You get each result between <tool_response> and </tool_response>. Answer in words when no function is needed."
)


def with_plain_tools(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The conversation in the plain form; `tools` are OpenAI's objects {"type": "function", "function": {...}}."""
    turns: list[Message] = []
    for message in messages:
        if message.tool_calls:
            calls = "\n".join(_plain_call(call.name, call.arguments) for call in message.tool_calls)
            content = "\n".join(filter(None, [message.content, calls]))
            message = replace(message, content=content, tool_calls=())
        elif message.role == "tool":
            content = f"<tool_response>\n{message.content}\n</tool_response>"
            if turns and turns[-1].role == "user" and turns[-1].content.endswith("</tool_response>"):
                turns[-1] = replace(turns[-1], content=f"{turns[-1].content}\n{content}")
                continue
            message = Message("user", content)
        turns.append(message)
    if not tools:
        return turns
    text = "\n".join([_HEAD, *map(_tool_line, tools), "", _TAIL])
    if turns and turns[0].role == "system":
        # the tools first: a date in the system prompt then leaves their pages in the cache
        return [replace(turns[0], content=f"{text}\n\n{turns[0].content}".rstrip()), *turns[1:]]
    return [Message("system", text), *turns]


def _plain_call(name: str, arguments: str) -> str:
    """A call; its arguments, JSON text, become one line, as models are trained on them. What is no JSON, which a model without
    the constraint of calls may write, stays.
    """
    try:
        line = json.dumps(json.loads(arguments), ensure_ascii=False)
    except ValueError:
        line = arguments
    return f"{CALL_OPENING}{name}{CALL_BETWEEN}{line}{CALL_CLOSING}"


def _tool_line(tool: Mapping[str, Any]) -> str:
    """The tool as a line of JSON."""
    function = tool["function"]
    schema = {"type": "object", "properties": {}} | dict(function.get("parameters") or {})
    row = {"name": function["name"], "description": function.get("description") or "", "parameters": schema}
    return json.dumps(row, ensure_ascii=False)
