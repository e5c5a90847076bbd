"""The rules of a grammar for calls in a syntax of parameters: the keys of each tool in the order of its schema, the optional
ones left out or not, and values by their schemas.

A text that is written without quotes is any text up to what closes it: `pattern` and the limits of its length are not followed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from parakit.inference.tool_calls.parameters import ParameterSyntax, closing_part, wants_text
from parakit.inference.tool_calls.parts import SyntaxParts, behind, literal, quoted
from parakit.inference.tool_calls.tools import Tool

_PYTHON_TEXT = r"""/'([^'\\\n]|\\['"\\nrt])*'|"([^"\\\n]|\\['"\\nrt])*"/"""


def parameter_rules(
    syntax: ParameterSyntax, tools: Sequence[Tool], is_parallel: bool
) -> tuple[list[str], dict[str, Any]]:
    """The rules up to `calls`, which is all that stands behind what opens a call, and the schemas that they name."""
    closing = closing_part(syntax)
    rules, schemas = [r"ANY_TEXT: /(.|\n)*/"], dict[str, Any]()
    if isinstance(closing, str):
        rules.append(f"raw[lazy]: ANY_TEXT {quoted(closing)}")
    elif closing is not None:
        rules.append(f"raw: ANY_TEXT {literal((closing,))}")
    ends, joins = list[str](), list[str]()
    for i, tool in enumerate(tools):
        more, end, join = (_behind(one, closing) for one in (syntax.more, syntax.end, syntax.join))
        keys = _properties(tool)
        for k, (key, schema, _) in enumerate(keys):
            name = f"value_{i}_{k}"
            written = _value(syntax, schema, name, closing)
            if f"@{name}" in written:
                schemas[name] = _with_definitions(schema, tool.parameters)
            rules.append(f"argument_{i}_{k}: {quoted(key)} {literal(syntax.assign)} ({written})")
            option = "" if keys[k][2] else "?"
            rules.append(f"rest_{i}_{k}: ({more} argument_{i}_{k}){option} rest_{i}_{k + 1}")
        rules.append(f'rest_{i}_{len(keys)}: ""')
        begins = _beginnings(i, [is_required for _, _, is_required in keys])
        if begins:
            first = literal(syntax.first)
            rules.append(f"arguments_{i}: " + " | ".join(f"{first} {begin}" for begin in begins))
        may_be_empty = not any(is_required for _, _, is_required in keys)
        for found, mark, empty in ((ends, end, syntax.empty), (joins, join, syntax.empty_join)):
            if begins and mark:
                found.append(f"{quoted(tool.name)} arguments_{i} {mark}")
            if may_be_empty and empty is not None:
                found.append(f"{quoted(tool.name)} {literal(empty)}")
    others = f"({' | '.join(joins)})* " if is_parallel and joins else ""
    rules.append(f"calls: {others}({' | '.join(ends)})")
    return rules, schemas


def _behind(parts: SyntaxParts | None, closing: str | int | None) -> str:
    if parts is None:
        return ""
    return literal(parts if closing is None else behind(parts, closing))


def _properties(tool: Tool) -> list[tuple[str, Any, bool]]:
    """Key, schema, and whether it must be there."""
    properties, required = tool.parameters.get("properties"), tool.parameters.get("required")
    if not isinstance(properties, Mapping):
        return []
    wanted = required if isinstance(required, list) else []
    return [(str(key), schema, key in wanted) for key, schema in properties.items()]


def _beginnings(i: int, required: Sequence[bool]) -> list[str]:
    """The argument that comes first, and the rest: any up to the first that is required."""
    n = next((k + 1 for k, one in enumerate(required) if one), len(required))
    return [f"argument_{i}_{k} rest_{i}_{k + 1}" for k in range(n)]


def _value(syntax: ParameterSyntax, schema: Any, name: str, closing: str | int | None) -> str:
    """A value with what closes it."""
    end = (
        f"{quoted(chr(10)) if syntax.is_wrapped else ''} {literal((closing,)) if closing is not None else ''}"
    )
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    choices = _text_choices(schema)
    if choices:
        return f"({' | '.join(quoted(_written(choice, syntax.quote)) for choice in choices)}) {end}"
    if wants_text(schema):
        return f"{_PYTHON_TEXT} {end}" if syntax.quote else "raw"
    if kind == "boolean":
        words = ("True", "False") if syntax.quote else ("true", "false", "True", "False")
        return f"({' | '.join(map(quoted, words))}) {end}"
    if not syntax.quote and (not isinstance(schema, Mapping) or not schema.keys() - {"description", "title"}):
        return "raw"
    none = f" | {quoted('None')}" if syntax.quote and "null" in json.dumps(schema) else ""
    return f"(@{name}{none}) {end}"


def _text_choices(schema: Any) -> list[str]:
    if not wants_text(schema):
        return []
    return [schema["const"]] if "const" in schema else list(schema.get("enum") or ())


def _written(text: str, quote: str) -> str:
    return repr(text) if quote else text


def _with_definitions(schema: Any, parameters: Mapping[str, Any]) -> Any:
    """The schema of one argument, with what it refers to."""
    if not isinstance(schema, Mapping):
        return {} if schema is True or schema is None else schema
    shared = {key: parameters[key] for key in ("$defs", "definitions") if key in parameters}
    return {**shared, **schema}
