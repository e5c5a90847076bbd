"""Calls whose arguments are no JSON object: each is written between marks of its own.

XML (Qwen3-Coder's `<parameter=a>`, GLM's `<arg_key>`) writes texts as they are, and other values as JSON. A pythonic call
(`add(a=2, b='x')`) writes Python's literals. The marks come from the chat template's own rendering of known arguments.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.common.files import JsonObject
from parakit.inference.tool_calls.parts import SyntaxParts, common_prefix

_KEYS, _NUMBERS, _TEXTS = ("zqxkeyone", "zqxkeytwo"), (70701, 70702), ("zqxtextone", "zqxtexttwo")
_NAMED = {"true": True, "false": False, "null": None}
WriteCalls = Callable[[Sequence[tuple[str, JsonObject]]], str | None]


@dataclass(frozen=True)
class ParameterSyntax:
    """The marks around arguments. `first` stands between the name of the function and the key of its first argument, `assign`
    between a key and its value, `more` between a value and the next key, and `end` behind the last value of the last call,
    `join` behind that of another, up to the name of the next (None: a turn has one call). `empty` and `empty_join` take the
    place of all that in a call without arguments.
    """

    first: SyntaxParts
    assign: SyntaxParts
    more: SyntaxParts
    end: SyntaxParts
    join: SyntaxParts | None
    empty: SyntaxParts
    empty_join: SyntaxParts | None
    quote: str = ""
    """Around a text; "": it is written as it is."""
    is_wrapped: bool = False
    """Whether a line break stands before and after each value."""


def learn_parameters(
    written: WriteCalls, parts: Callable[[str], SyntaxParts], names: Sequence[str]
) -> ParameterSyntax | None:
    """The marks of a chat template. `written`: what it makes of calls; `parts`: a text with its control tokens as ids. None
    where the arguments are written otherwise.
    """
    numbers, texts = (dict(zip(_KEYS, values, strict=True)) for values in (_NUMBERS, _TEXTS))
    one = _pieces(written([(names[0], numbers)]), [names[0], *_interleaved(numbers)])
    quoted = _pieces(written([(names[0], texts)]), [names[0], *_interleaved(texts)])
    empty = _pieces(written([(names[0], {})]), names[:1])
    if one is None or quoted is None or empty is None:
        return None
    _, first, assign, more, assign_2, end = one
    quote = quoted[2].removeprefix(assign)
    is_quoted = quoted[3] == f"{quote}{more}" and quoted[5] == f"{quote}{end}"
    if (
        not assign.strip()
        or not end.strip()
        or assign != assign_2
        or quote not in ("", "'", '"')
        or not is_quoted
    ):
        return None
    join = _join(written, names, numbers, one)
    return ParameterSyntax(
        parts(first),
        parts(assign),
        parts(more),
        parts(end),
        None if join is None else parts(join),
        parts(empty[1]),
        _empty_join(written, parts, names, empty),
        quote,
        assign.endswith("\n") and more.startswith("\n"),
    )


def _interleaved(arguments: Mapping[str, object]) -> list[str]:
    return [str(one) for pair in arguments.items() for one in pair]


def _pieces(text: str | None, marks: Sequence[str]) -> list[str] | None:
    """What stands before, between and after the marks, each of which occurs once and in this order."""
    pieces, rest = list[str](), text
    if text is None or any(text.count(mark) != 1 for mark in marks):
        return None
    for mark in marks:
        assert rest is not None
        before, is_there, rest = rest.partition(mark)
        if not is_there:
            return None
        pieces.append(before)
    return [*pieces, str(rest)]


def _join(written: WriteCalls, names: Sequence[str], numbers: JsonObject, one: Sequence[str]) -> str | None:
    """What stands between the last value of a call and the name of the next."""
    two = _pieces(
        written([(names[0], numbers), (names[1], {})]), [names[0], *_interleaved(numbers), names[1]]
    )
    return two[5] if two is not None and two[:5] == list(one[:5]) else None


def _empty_join(
    written: WriteCalls, parts: Callable[[str], SyntaxParts], names: Sequence[str], empty: Sequence[str]
) -> SyntaxParts | None:
    two = _pieces(written([(names[0], {}), (names[1], {})]), names[:2])
    return parts(two[1]) if two is not None and two[0] == empty[0] else None


def value_of(text: str, schema: Any, syntax: ParameterSyntax) -> Any:
    """The value that a model wrote for an argument of this schema; a text that is neither JSON nor Python's is a string."""
    if syntax.is_wrapped:
        text = text.removeprefix("\n").removesuffix("\n")
    if not syntax.quote and wants_text(schema):
        return text
    text = text.strip()
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
            json.dumps(value, allow_nan=False)
            return value
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return _NAMED.get(text.lower(), text)


def wants_text(schema: Any) -> bool:
    """Whether every value of a schema is a string."""
    if not isinstance(schema, Mapping):
        return False
    if "const" in schema:
        return isinstance(schema["const"], str)
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return all(isinstance(choice, str) for choice in choices)
    return schema.get("type") == "string"


def closing_part(syntax: ParameterSyntax) -> str | int | None:
    """What closes a value, whatever comes then: a control token, or text up to the end of a tag; None where nothing does."""
    for a, b in zip(syntax.more, syntax.end, strict=False):
        if isinstance(a, str) and isinstance(b, str):
            text = common_prefix(a, b)
            if closing := text[: text.rfind(">") + 1].strip():
                return closing
        if a != b:
            return None
        if isinstance(a, int):
            return a
    return None
