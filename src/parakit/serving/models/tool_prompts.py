"""The prompt of a call with its tools, and the constraint under which the model calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message, parse_messages
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.constraints import Constraint
from parakit.inference.tool_calls.grammar import answer_constraint, call_constraint
from parakit.inference.tool_calls.prompt import tool_prompt
from parakit.inference.tool_calls.reasoning import reasoning_syntax
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.inference.tool_calls.tools import check_tools
from parakit.serving.generation.call import GenerationCall
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MessageRows = Sequence[Message | Mapping[str, Any]]


def prompt_of(
    call: GenerationCall, tokenizer: Tokenizer
) -> tuple[str | MessageRows, list[JsonObject] | None]:
    """The text or the messages to complete, and the tools for the chat template. Tools that must not be called are left out."""
    if call.messages is None:
        return call.prompt or "", None
    check_tools(call.tools, call.tool_choice)
    tools = call.tools if call.may_call else ()
    if not tools and not any(row.get("tool_calls") or row["role"] == "tool" for row in call.messages):
        return call.messages, None
    messages = parse_messages(call.messages, "messages")
    prompt = tool_prompt(messages, tools, call_syntax(tokenizer))
    return prompt.messages, prompt.tools


def tool_constraint(
    call: GenerationCall, sampling: SamplingConfig, tokenizer: Tokenizer, prefix: str
) -> Constraint | None:
    """The constraint of a turn that may call tools, or whose JSON may have reasoning before it; None for others."""
    if call.messages is None:
        return None
    if not call.may_call:
        if sampling.json_schema is None:
            return None
        return answer_constraint(tokenizer, reasoning_syntax(tokenizer), sampling.json_schema, prefix)
    for name in ("regex", "grammar"):
        if getattr(sampling, name) is not None:
            raise UserError(f"{name} is set next to tools", "set a JSON schema, or leave out the tools")
    return call_constraint(
        tokenizer,
        call_syntax(tokenizer),
        call.tools,
        call.tool_choice,
        content_schema=sampling.json_schema,
        prefix=prefix,
    )
