"""The constraint under which a model calls tools: free text, or calls whose arguments match the tool's schema.

One grammar for the whole turn: text up to what opens a call, then the syntax of a call with one alternative for each tool, the
arguments by its JSON schema. Text that opens a call is never free, so what the model writes is a valid call or none. Control
tokens of the syntax stand in the grammar as ids; free text may have any control token that neither opens a call nor ends the
turn, because a model that reasons writes some.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from parakit.inference.generation.constraints import Constraint, compile_grammars
from parakit.inference.tool_calls.syntax import ID_LENGTH, CallSyntax, SyntaxParts
from parakit.inference.tool_calls.tools import Tool, ToolChoice, check_tools
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_ANYTHING = r"(.|\n)*"


def call_constraint(
    tokenizer: Tokenizer,
    syntax: CallSyntax,
    tools: Sequence[Tool],
    choice: ToolChoice,
    *,
    content_schema: Any = None,
    prefix: str = "",
) -> Constraint | None:
    """The constraint of an assistant's turn; None where no tool may be called. With a `content_schema` a turn is calls, or
    JSON of this schema. `prefix` as for `compile_constraint`.

    Raises `UserError` for tools and choices that are none, and schemas that cannot be compiled within the limits.
    """
    check_tools(tools, choice)
    allowed = [] if choice.mode == "none" else choice.allowed(tools)
    if not allowed:
        return None
    ends = frozenset(stop_ids(tokenizer))
    trigger = syntax.trigger
    free_ids = sorted(tokenizer.control_ids - ends - {trigger})
    named = {part for parts in _all_parts(syntax) for part in parts if isinstance(part, int)}
    rules = _rules(syntax, allowed, choice, free_ids, content_schema is not None)
    schemas = {f"arguments_{i}": tool.schema for i, tool in enumerate(allowed)}
    lenient = [f"arguments_{i}" for i, tool in enumerate(allowed) if not tool.strict]
    if content_schema is not None:
        schemas["content_schema"] = content_schema
    names = ", ".join(tool.name for tool in allowed)
    return compile_grammars(
        tokenizer,
        "\n".join(rules),
        schemas,
        named | set(free_ids),
        name=f"tools {names if len(names) <= 60 else names[:59] + '…'}",
        lenient=lenient,
        prefix=prefix,
    )


def _all_parts(syntax: CallSyntax) -> tuple[SyntaxParts, ...]:
    return syntax.before, syntax.between, syntax.join or (), syntax.after


def _rules(
    syntax: CallSyntax, tools: Sequence[Tool], choice: ToolChoice, free_ids: Sequence[int], has_content: bool
) -> list[str]:
    between = _literal(syntax.between)
    call = " | ".join(f"{_quoted(tool.name)} {between} @arguments_{i}" for i, tool in enumerate(tools))
    more = "" if syntax.join is None or not choice.parallel else f"({_literal(syntax.join)} call)*"
    rules = [f"call: {call}", f"calls: call {more} {_literal(syntax.after)}"]
    before, trigger = _literal(syntax.before), syntax.trigger
    if choice.mode == "required":
        return [f"start: {before} calls", *rules]
    if has_content:
        return [f"start: {before} calls | @content_schema", *rules]
    free = f"TEXT ({_control(free_ids)} TEXT)*" if free_ids else "TEXT"
    text = f"TEXT: /{_ANYTHING}/"
    if trigger is None:
        start = re.sub(r"[/\W]", lambda match: "\\" + match[0], str(syntax.before[0]).strip())
        text = f"TEXT: /{_ANYTHING}/ & ~/{start}{_ANYTHING}/"
        return [f"start: {before} calls | {free}", *rules, text]
    rest = _literal(_behind(syntax.before, trigger))
    if isinstance(trigger, int):
        group = [f"group: {free} <[{trigger}]> {rest} calls"]
    else:  # the last text before a call ends with what opens it
        others = f"(TEXT {_control(free_ids)})* " if free_ids else ""
        group = [f"head[lazy]: TEXT {_quoted(trigger)}", f"group: {others}head {rest} calls"]
    start = f"group* {free}" if choice.parallel else f"group | {free}"
    return [f"start: {start}", *group, *rules, text]


def _behind(before: SyntaxParts, trigger: str | int) -> SyntaxParts:
    """What follows what opens a call."""
    for i, part in enumerate(before):
        if part == trigger:
            return before[i + 1 :]
        if isinstance(part, str) and isinstance(trigger, str) and trigger in part:
            return (part.partition(trigger)[2], *before[i + 1 :])
    raise AssertionError("the trigger is a part of the beginning")


def _literal(parts: SyntaxParts) -> str:
    written = (
        _quoted(part)
        if isinstance(part, str)
        else f"/[A-Za-z0-9]{{{ID_LENGTH}}}/"
        if part is None
        else f"<[{part}]>"
        for part in parts
        if part != ""
    )
    return " ".join(written)


def _quoted(text: str) -> str:
    return json.dumps(text).replace("<", "\\u003c")


def _control(ids: Iterable[int]) -> str:
    """One of these tokens, as ranges."""
    ranges: list[list[int]] = []
    for one in ids:
        if ranges and ranges[-1][1] == one - 1:
            ranges[-1][1] = one
        else:
            ranges.append([one, one])
    return f"<[{','.join(str(a) if a == b else f'{a}-{b}' for a, b in ranges)}]>"
