"""What a chat template writes of a conversation besides the contents: tools, calls of functions, reasoning.

A template that does not know them drops them, as transformers does, and a turn that calls a function becomes an empty
answer to learn. Tools and calls get the plain form instead, and a set with reasoning is refused. A template that cannot render
the probe is not judged.
"""

from __future__ import annotations

import json
from functools import lru_cache

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.messages import ToolCall
from parakit.data.conversations.plain_tools import with_plain_tools
from parakit.tokens.chat.rendering import read_turns, render
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_MARK = "zqxmark"
_TOOLS = [{"type": "function", "function": {"name": _MARK, "description": "", "parameters": {"type": "object",
           "properties": {}}}}]  # fmt: skip
_USER = Message("user", "a")
_CALL = Message("assistant", "", tool_calls=(ToolCall(_MARK, "{}", "abcdefghi"),))
_PROBES: dict[str, tuple[Message, ...]] = {
    "tools": (_USER,),
    "tool_calls": (_USER, _CALL, Message("tool", "b", name="x", tool_call_id="abcdefghi"), Message("assistant", "c")),
    "reasoning_content": (_USER, Message("assistant", "b", reasoning_content=_MARK)),
}  # fmt: skip
_REMEDIES = {
    "tools": "take a model whose template knows tools, or write them into the system prompt and remove the key",
    "tool_calls": "take a model whose template knows tools, or write the calls into the content",
    "reasoning_content": "take a model whose template knows reasoning, or write it into the content, as <think>...</think>",
}


def supported_form(tokenizer: Tokenizer, conversation: Conversation) -> Conversation:
    """The conversation as the tokenizer's template can write it: with tools or calls that it does not know, the plain form.

    Raises `UserError` for what no form has, such as reasoning that the template would drop.
    """
    has_tools = conversation.tools is not None
    has_calls = any(message.tool_calls for message in conversation.messages)
    if (has_tools and not template_writes(tokenizer, "tools")) or (
        has_calls and not template_writes(tokenizer, "tool_calls")
    ):
        tools = json.loads(conversation.tools) if conversation.tools is not None else []
        messages = tuple(with_plain_tools(conversation.messages, tools))
        conversation = Conversation(messages, conversation.tests)
    check_supported(tokenizer, conversation)
    return conversation


def check_supported(tokenizer: Tokenizer, conversation: Conversation) -> None:
    """`UserError` where the template would drop tools, calls or reasoning of `conversation`."""
    found = {
        "tools": conversation.tools is not None,
        "tool_calls": any(message.tool_calls for message in conversation.messages),
        "reasoning_content": any(message.reasoning_content for message in conversation.messages),
    }
    for key in (key for key, is_there in found.items() if is_there):
        if not template_writes(tokenizer, key):
            first = next((m.content for m in conversation.messages if m.role == "user"), "")
            raise UserError(
                f"a conversation has {key!r}, which the model's chat template does not write: the one that begins with"
                f" {' '.join(first.split())[:60]!r}",
                _REMEDIES[key],
            )


@lru_cache(maxsize=6)
def template_writes(tokenizer: Tokenizer, key: str) -> bool:
    """Whether the tokenizer's chat template writes `tools`, `tool_calls` or `reasoning_content` of a conversation."""
    tools = _TOOLS if key == "tools" else None
    try:
        return _MARK in render(tokenizer, read_turns(_PROBES[key]).messages, False, tools).text
    except UserError:
        return True
