"""What a chat template writes of a conversation besides the contents: tools, calls of functions, reasoning.

A template that does not know them drops them, as transformers does: a turn that calls a function becomes an empty answer to
learn, and one with reasoning an answer without it. They get the plain form instead. A template that cannot render the probe is
not judged.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.messages import ToolCall
from parakit.data.conversations.plain_reasoning import with_plain_reasoning, without_earlier_reasoning
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
    "earlier_reasoning": (
        _USER, Message("assistant", "b", reasoning_content=_MARK), _USER, Message("assistant", "c")
    ),
}  # fmt: skip
_REMEDIES = {
    "tools": "take a model whose template knows tools, or write them into the system prompt and remove the key",
    "tool_calls": "take a model whose template knows tools, or write the calls into the content",
    "reasoning_content": "take a model whose template knows reasoning, or write it into the content, as <think>...</think>",
}


REASONING_TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)


def known_reasoning_tags(tokenizer: Tokenizer) -> tuple[str, str]:
    """The tags around reasoning that the chat template or the vocabulary has, else `<think>`."""
    places = (tokenizer.chat_template or "", tokenizer.special_tokens)
    return next(
        (pair for pair in REASONING_TAGS if any(pair[0] in place for place in places)), REASONING_TAGS[0]
    )


def supported_form(tokenizer: Tokenizer, conversation: Conversation) -> Conversation:
    """The conversation as the tokenizer's template can write it: tools, calls and reasoning that it does not know in the plain
    form, and an answer whose reasoning it leaves out, because another question follows, as context.
    """
    if any(message.reasoning_content for message in conversation.messages):
        conversation = _with_reasoning(tokenizer, conversation)
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


def _with_reasoning(tokenizer: Tokenizer, conversation: Conversation) -> Conversation:
    messages = conversation.messages
    if not template_writes(tokenizer, "reasoning_content"):
        return replace(
            conversation, messages=tuple(with_plain_reasoning(messages, *known_reasoning_tags(tokenizer)))
        )
    if template_writes(tokenizer, "earlier_reasoning"):
        return conversation
    last_question = max((i for i, one in enumerate(messages) if one.role == "user"), default=0)
    return replace(conversation, messages=tuple(without_earlier_reasoning(messages, last_question)))


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


@lru_cache(maxsize=8)
def template_writes(tokenizer: Tokenizer, key: str) -> bool:
    """Whether the tokenizer's chat template writes `tools`, `tool_calls` or `reasoning_content` of a conversation, or
    `earlier_reasoning`, that of an answer before the last question.
    """
    tools = _TOOLS if key == "tools" else None
    try:
        return _MARK in render(tokenizer, read_turns(_PROBES[key]).messages, False, tools).text
    except UserError:
        return True
