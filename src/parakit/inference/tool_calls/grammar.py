"""The constraint under which a model calls tools: free text, or calls whose arguments match the tool's schema.

One grammar for the whole turn: text up to what opens a call, then the syntax of a call with one alternative for each tool, the
arguments by its JSON schema. Text that opens a call is never free, so what the model writes is a valid call or none. Control
tokens of the syntax stand in the grammar as ids; free text may have any control token that neither opens a call nor ends the
turn, because a model that reasons writes some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from parakit.inference.generation.constraints import Constraint, compile_grammars
from parakit.inference.tool_calls.parameter_grammar import parameter_rules
from parakit.inference.tool_calls.parts import behind, literal, quoted
from parakit.inference.tool_calls.reasoning import ReasoningSyntax, reasoning_syntax
from parakit.inference.tool_calls.syntax import CallSyntax
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
    reasoning = reasoning_syntax(tokenizer)
    named = {
        part
        for parts in (*syntax.all_parts, reasoning.opening, reasoning.closing)
        for part in parts
        if isinstance(part, int)
    }
    calls, schemas, lenient = _calls(syntax, allowed, choice)
    rules = _rules(syntax, reasoning, calls, choice, free_ids, content_schema is not None)
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


def answer_constraint(
    tokenizer: Tokenizer, reasoning: ReasoningSyntax, content_schema: Any, prefix: str = ""
) -> Constraint | None:
    """The constraint of a turn whose answer is JSON of a schema and may have reasoning before it; None where the model marks
    none by control tokens and the prompt opens none, so that the whole turn is the JSON.
    """
    free_ids = sorted(tokenizer.control_ids - frozenset(stop_ids(tokenizer)))
    thought, rules = _thought(reasoning, free_ids)
    if not thought:
        return None
    marks = {part for part in (*reasoning.opening, *reasoning.closing) if isinstance(part, int)}
    rules = [f"start: {thought} @content_schema", *rules, f"TEXT: /{_ANYTHING}/"]
    schemas = {"content_schema": content_schema}
    return compile_grammars(
        tokenizer, "\n".join(rules), schemas, marks | set(free_ids), name="json_schema", prefix=prefix
    )


def _thought(reasoning: ReasoningSyntax, free_ids: Sequence[int]) -> tuple[str, list[str]]:
    """How a turn that has to be something else may begin, and the rules for that; nothing where it cannot reason before."""
    first, blank = reasoning.closing[0], r"/[ \n]*/"
    if not reasoning.is_opened and not isinstance(reasoning.opening[0], int):
        return "", []
    if isinstance(first, int):
        others = [i for i in free_ids if i != first]
        free = f"TEXT ({_control(others)} TEXT)*" if others else "TEXT"
        rules = [f"thought: {free} {literal(reasoning.closing)} {blank}"]
    else:
        end = f"head_of_answer[lazy]: TEXT {quoted(str(first))}"
        rules = [end, f"thought: head_of_answer {literal(reasoning.closing[1:])} {blank}"]
    return "thought" if reasoning.is_opened else f"({literal(reasoning.opening)} thought)?", rules


def _calls(
    syntax: CallSyntax, tools: Sequence[Tool], choice: ToolChoice
) -> tuple[list[str], dict[str, Any], list[str]]:
    """The rules of what follows the opening of a call, the schemas that they name, and those that are lenient."""
    if syntax.parameters is not None:
        rules, schemas = parameter_rules(syntax.parameters, tools, choice.parallel)
        return rules, schemas, [name for name in schemas if not tools[int(name.split("_")[1])].strict]
    between = literal(syntax.between)
    call = " | ".join(f"{quoted(tool.name)} {between} @arguments_{i}" for i, tool in enumerate(tools))
    more = "" if syntax.join is None or not choice.parallel else f"({literal(syntax.join)} call)*"
    return (
        [f"call: {call}", f"calls: call {more} {literal(syntax.after)}"],
        {f"arguments_{i}": tool.schema for i, tool in enumerate(tools)},
        [f"arguments_{i}" for i, tool in enumerate(tools) if not tool.strict],
    )


def _rules(
    syntax: CallSyntax,
    reasoning: ReasoningSyntax,
    calls: Sequence[str],
    choice: ToolChoice,
    free_ids: Sequence[int],
    has_content: bool,
) -> list[str]:
    before, trigger = literal(syntax.before), syntax.trigger
    text = f"TEXT: /{_ANYTHING}/"
    if choice.mode == "required" or has_content:
        thought, of_thought = _thought(reasoning, free_ids)
        turn = f"{before} calls" + ("" if choice.mode == "required" else " | @content_schema")
        return [f"start: {thought} ({turn})", *of_thought, *calls, text]
    rules = list(calls)
    free = f"TEXT ({_control(free_ids)} TEXT)*" if free_ids else "TEXT"
    if trigger is None:
        start = re.sub(r"[/\W]", lambda match: "\\" + match[0], str(syntax.before[0]).strip())
        text = f"TEXT: /{_ANYTHING}/ & ~/{start}{_ANYTHING}/"
        return [f"start: {before} calls | {free}", *rules, text]
    rest = literal(behind(syntax.before, trigger))
    if isinstance(trigger, int):
        group = [f"group: {free} <[{trigger}]> {rest} calls"]
    else:  # the last text before a call ends with what opens it
        others = f"(TEXT {_control(free_ids)})* " if free_ids else ""
        group = [f"head[lazy]: TEXT {quoted(trigger)}", f"group: {others}head {rest} calls"]
    start = f"group* {free}" if choice.parallel else f"group | {free}"
    return [f"start: {start}", *group, *rules, text]


def _control(ids: Iterable[int]) -> str:
    """One of these tokens, as ranges."""
    ranges: list[list[int]] = []
    for one in ids:
        if ranges and ranges[-1][1] == one - 1:
            ranges[-1][1] = one
        else:
            ranges.append([one, one])
    return f"<[{','.join(str(a) if a == b else f'{a}-{b}' for a, b in ranges)}]>"
