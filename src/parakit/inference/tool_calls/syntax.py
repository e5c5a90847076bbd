"""How a model writes a call: learned from what its chat template makes of a conversation with calls.

The template renders an assistant's turn with one call and with two, whose names and arguments are known: what it writes around
them is the syntax (Hermes' and Qwen's `<tool_call>` JSON, Mistral's list behind `[TOOL_CALLS]`, Llama's bare object, ...),
control tokens included, as ids. Arguments that are no JSON object are learned one by one (`parameters`). A template without
calls, or one whose form is neither, gets the syntax `DESCRIBED`, which the prompt then describes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.plain_tools import CALL_BETWEEN, CALL_CLOSING, CALL_OPENING
from parakit.inference.tool_calls.parameters import ParameterSyntax, learn_parameters
from parakit.inference.tool_calls.parts import SyntaxParts, split_controls
from parakit.inference.tool_calls.reasoning import ReasoningSyntax, reasoning_syntax
from parakit.tokens.chat.rendering import read_turns, render
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.chat.template_support import template_writes
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_NAMES, _IDS, _KEY, _VALUE = ("zqxone", "zqxtwo"), ("zqxident1", "zqxident2"), "zqxkey", "zqxvalue"
_ARGUMENTS = re.compile(rf'\{{\s*"{_KEY}"\s*:\s*"{_VALUE}"\s*\}}')
_USER: JsonObject = {"role": "user", "content": "a"}
_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}
    for name in _NAMES
]


@dataclass(frozen=True)
class CallSyntax:
    """What stands before the name of the first call, between a name and its arguments, between two calls (None: a turn has one
    call) and after the last.
    """

    before: SyntaxParts
    between: SyntaxParts
    join: SyntaxParts | None
    after: SyntaxParts
    is_templates: bool = True
    """Whether the chat template writes tools and calls itself."""
    parameters: ParameterSyntax | None = None
    """How arguments are written that are no JSON object; `between`, `join` and `after` are then empty."""

    @property
    def all_parts(self) -> tuple[SyntaxParts, ...]:
        """Everything that a call may have around names, keys and values."""
        found = (self.before, self.between, self.join or (), self.after)
        if (one := self.parameters) is None:
            return found
        marks = (one.first, one.assign, one.more, one.end, one.join or (), one.empty, one.empty_join or ())
        return (*found, *marks)

    @property
    def trigger(self) -> str | int | None:
        """The text or control token after which a turn is a call; None where a turn is one that begins as `before` does."""
        first = next((part for part in self.before if not isinstance(part, str) or part.strip()), None)
        if not isinstance(first, str):
            return first
        word = re.split(r"[\s{]", first.strip(), maxsplit=1)[0]
        return word if any(one.isalnum() for one in word) else None  # a bracket alone is too common in text


DESCRIBED = CallSyntax(
    (CALL_OPENING,),
    (CALL_BETWEEN,),
    (f"{CALL_CLOSING}\n{CALL_OPENING}",),
    (CALL_CLOSING,),
    is_templates=False,
)


@lru_cache(maxsize=16)
def call_syntax(tokenizer: Tokenizer) -> CallSyntax:
    """The syntax of calls of a tokenizer's chat template, or `DESCRIBED`."""
    if not (template_writes(tokenizer, "tools") and template_writes(tokenizer, "tool_calls")):
        return DESCRIBED
    reasoning = reasoning_syntax(tokenizer)

    def written(calls: Sequence[tuple[str, JsonObject]]) -> str | None:
        return _written_calls(tokenizer, reasoning, calls)

    def parts(text: str) -> SyntaxParts:
        return split_controls(tokenizer, text, _IDS)

    one, two = (_around_calls(written, parts, n) for n in (1, 2))
    if one is None:
        opening = (written([(_NAMES[0], {})]) or "").partition(_NAMES[0])[0]
        parameters = learn_parameters(written, parts, _NAMES)
        if not opening.strip() or parameters is None:
            return DESCRIBED
        return CallSyntax(parts(opening), (), None, (), parameters=parameters)
    before, between, after = one
    join = two[2] if two is not None and (two[0], two[1], two[4]) == one else None
    syntax = CallSyntax(before, between, join, after)
    return syntax if before and syntax.before != ("",) else DESCRIBED


def _written_calls(
    tokenizer: Tokenizer, reasoning: ReasoningSyntax, calls: Sequence[tuple[str, JsonObject]]
) -> str | None:
    """What the template writes of a turn with these calls, (name, arguments) each: without its empty reasoning, and without
    what ends the turn. None where it cannot be found.
    """
    rows = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
        for (name, arguments), i in zip(calls, _IDS, strict=False)
    ]
    turn: JsonObject = {"role": "assistant", "content": "", "tool_calls": rows}
    try:
        prompt = render(tokenizer, read_turns([_USER]).messages, True, _TOOLS).text
        whole = render(tokenizer, read_turns([_USER, turn]).messages, False, _TOOLS).text
    except UserError:
        return None
    opening, closing = (re.escape(mark) for mark in (reasoning.opening_text, reasoning.closing_text))
    empty = rf"\s*{opening}\s*{closing}\s*"
    if not whole.startswith(prompt):  # it opens the reasoning, or leaves it empty
        prompt = re.sub(rf"({empty}|{opening}\s*)$", "", prompt)
    if not whole.startswith(prompt):
        return None
    rest = re.sub(rf"^({empty}|\s*{closing}\s*)", "", whole[len(prompt) :])
    ends = frozenset(stop_ids(tokenizer))
    pattern = tokenizer.control_pattern
    for match in pattern.finditer(rest) if pattern is not None else ():
        if tokenizer.special_tokens[match[match.lastindex or 0]] in ends:
            return rest[: match.start()]
    return rest


def _around_calls(
    written: Callable[[Sequence[tuple[str, JsonObject]]], str | None],
    parts: Callable[[str], SyntaxParts],
    n_calls: int,
) -> tuple[SyntaxParts, ...] | None:
    """What is written before, between and after the names and arguments of `n_calls` calls; None where it cannot be found."""
    rest, found = written([(name, {_KEY: _VALUE}) for name in _NAMES[:n_calls]]), list[str]()
    if rest is None:
        return None
    for name in _NAMES[:n_calls]:
        before, is_there, rest = rest.partition(name)
        arguments = _ARGUMENTS.search(rest)
        if not is_there or arguments is None:
            return None
        found += [before, rest[: arguments.start()]]
        rest = rest[arguments.end() :]
    if any(mark in piece for piece in [*found, rest] for mark in (*_NAMES, _KEY, _VALUE)):
        return None
    return tuple(map(parts, [*found, rest]))
