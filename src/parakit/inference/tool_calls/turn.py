"""An assistant's turn that may call tools, on Parakit's engine: the request with its constraint, and what the model wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parakit.data.conversations.messages import Message, ToolCall
from parakit.inference.config import SamplingConfig
from parakit.inference.engine.requests import Request
from parakit.inference.generation.completion import prompt_ids
from parakit.inference.tool_calls.grammar import call_constraint
from parakit.inference.tool_calls.parsing import ToolCallStream
from parakit.inference.tool_calls.prompt import tool_prompt
from parakit.inference.tool_calls.reasoning import reasoning_syntax
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.inference.tool_calls.tools import Tool, ToolChoice
from parakit.tokens.chat.template import response_prefix
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class ToolTurn:
    """What a turn has: text, complete calls, and reasoning. `is_cut_off`: it ended within a call."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    is_cut_off: bool = False

    def to_message(self) -> Message:
        """The assistant's message."""
        return Message(
            "assistant", self.text, reasoning_content=self.reasoning or None, tool_calls=self.calls
        )


def turn_ids(tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
    """The prompt of a turn, in the template's form of tools or the plain one."""
    prompt = tool_prompt(messages, tools, call_syntax(tokenizer))
    return prompt_ids(tokenizer, prompt.messages, prompt.tools)


def turn_request(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    choice: ToolChoice,
    sampling: SamplingConfig,
    *,
    seed: int | None = None,
    token_ids: Sequence[int] | None = None,
    is_constrained: bool = True,
) -> Request:
    """A request for the next turn. `token_ids`: the prompt, where the caller has it; without `is_constrained` the model may
    write a call that is none.

    Raises `UserError` as `call_constraint` does.
    """
    prefix, constraint = response_prefix(tokenizer), None
    if is_constrained:
        constraint = call_constraint(tokenizer, call_syntax(tokenizer), tools, choice, prefix=prefix)
    return Request(
        token_ids=turn_ids(tokenizer, messages, tools) if token_ids is None else token_ids,
        sampling=sampling,
        seed=seed,
        constraint=None if constraint is None else constraint.start,
        response_prefix=prefix,
    )


def read_turn(tokenizer: Tokenizer, tools: Sequence[Tool], token_ids: Sequence[int]) -> ToolTurn:
    """The turn that a model wrote."""
    stream = ToolCallStream(
        tokenizer,
        call_syntax(tokenizer) if tools else None,
        prefix=response_prefix(tokenizer),
        reasoning=reasoning_syntax(tokenizer),
        tools=tools,
    )
    for token_id in token_ids:
        stream.push(token_id)
    stream.finish()
    calls = tuple(ToolCall(one.name, one.arguments, one.id) for one in stream.calls if one.is_complete)
    reasoning = "" if stream.reasoning is None else stream.reasoning.text
    return ToolTurn(stream.text, calls, reasoning, len(calls) < len(stream.calls))
